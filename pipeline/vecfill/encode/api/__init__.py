"""An embedding API as a model: requests, their pace and budget, and checked answers."""
