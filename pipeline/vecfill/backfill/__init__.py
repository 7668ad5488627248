"""The main job: prepare a run, drain what is eligible, account for every row."""
