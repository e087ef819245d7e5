"""Published practice by name: what a study can be told to measure beside its own candidates, as marks to judge them by.

Weights of the decoder layers alone; embeddings and head stay whole, as they do there.
"""

from __future__ import annotations

from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes
from search_spaces.methods.registry import Step

# The grids are those of compressed-tensors' schemes W8A16 (a scale an output channel) and W4A16 (a scale for 128
# weights), in which checkpoints of GPTQ are published: https://github.com/vllm-project/compressed-tensors. bitsandbytes
# is as transformers' `load_in_8bit` and `bnb_4bit_quant_type="nf4"` have it.
REFERENCE_POINTS: dict[str, tuple[Step, ...]] = {
    "rtn-8": (RTN(bits=8, group_size=-1),),
    "rtn-4": (RTN(bits=4, group_size=128),),
    "rtn-3": (RTN(bits=3, group_size=128),),
    "bnb-int8": (BitsAndBytes(format="int8"),),
    "bnb-nf4": (BitsAndBytes(format="nf4"),),
    "gptq-4": (GPTQ(bits=4, group_size=128),),
}
# The word for all of them.
COMMON = "common"
