"""Jobs: from a recipe and its data to a trained model."""

from pydnn.jobs.columns import Columns
from pydnn.jobs.fitting_columns import fit_columns
from pydnn.jobs.inputs import Inputs
from pydnn.jobs.job import Job, prepare, run
from pydnn.jobs.model import Model, load_model, model_of
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.jobs.training import Trained, train

__all__ = [
    "Columns",
    "Inputs",
    "Job",
    "Model",
    "Standardization",
    "Trained",
    "fit_columns",
    "fit_standardization",
    "load_model",
    "model_of",
    "prepare",
    "run",
    "train",
]
