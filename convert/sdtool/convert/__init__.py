"""Put the bytes of tensors into a new file."""

from sdtool.convert.names import output_name as output_name
from sdtool.convert.plan import (
    ConvertPlan as ConvertPlan,
)
from sdtool.convert.plan import (
    LeftOut as LeftOut,
)
from sdtool.convert.plan import (
    Selected as Selected,
)
from sdtool.convert.plan import (
    Selection as Selection,
)
from sdtool.convert.plan import (
    plan_safetensors as plan_safetensors,
)
from sdtool.convert.plan import (
    select_all as select_all,
)
from sdtool.convert.writer import Written as Written
from sdtool.convert.writer import write_safetensors as write_safetensors
