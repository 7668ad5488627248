"""``vecfill migrate``: moves a tracked target to another model beside the application's use of the table."""
