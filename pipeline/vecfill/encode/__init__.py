"""The encode room: texts to vectors. Importing it loads neither torch nor a model."""

from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding
from vecfill.encode.spec import Model
from vecfill.encode.stage import Encode, EncodeSpec

__all__ = ["Encode", "EncodeSpec", "Encoder", "Encoding", "Model"]
