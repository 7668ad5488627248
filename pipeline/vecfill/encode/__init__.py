"""The encode room: texts to vectors. Importing it loads neither torch nor a model."""

from vecfill.encode.spec import Encoder, Encoding, Model
from vecfill.encode.stage import Encode, EncodeSpec

__all__ = ["Encode", "EncodeSpec", "Encoder", "Encoding", "Model"]
