"""The encode room: texts to vectors. Importing it loads neither torch nor a model."""

from vecfill.config.model import Model
from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding
from vecfill.encode.stage import EncodeSpec, EncodeStage

__all__ = ["EncodeSpec", "EncodeStage", "Encoder", "Encoding", "Model"]
