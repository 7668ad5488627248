"""An embedding API as a model: requests, their pace, their budget, and answers that are checked before they count."""
