"""The encode room: texts to vectors. Importing it loads neither torch nor a model."""

from vecfill.config.model import Model
from vecfill.encode.encoder import Encoder, Encoding
from vecfill.encode.stage import Encode, EncodeSpec

__all__ = ["Encode", "EncodeSpec", "Encoder", "Encoding", "Model"]
