"""Small checkpoints that TensorFlow 2.21 wrote (`Saver` of V1 and of V2), and what it put in.

They are compressed by zlib, as text. tests/interop/test_tensorflow.py makes such files where
TensorFlow is installed, and asks its own reader.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np


def _bytes(*lines: str) -> bytes:
    return zlib.decompress(base64.b85decode("".join(lines)))


V1 = _bytes(
    "c-n<h&ubGw6n-<io86uK=sHQ`vS=-#gc1*FV!#pvn_d(V54{LpBx%<Y+$5#RQWP|sP*m{b-",
    "9tTk^DmHi@gMN$r3e24Pl8CDnVsEa<H3QK3~#>gy>H+90A4HPR3X=izCZB%UVlgpij5QtY@-",
    "q(*h&%AKo%+);*KpuY(fs){?M&<y6quVB^DDP>m(DtJav!zt|w|KEL8TcvUeZ_k~$dp9nTd!WMjd*Of<K5G<rr;6",
    "cX?}(Vlqi!?25D6M@c?^r1KCw7ti}k$XhJHcLQOiQesxhShFOVp9Ser|VLvmP|KfT1lq2W!g-n{hCaxQis-",
    "W_uOa%x=1#NdOSEuj**WJ^I!v2jm5hf-uWoNs)5`AAcTWg!Gu;9))I~1aVj>1X9pl)F=GKOfb~`m-",
    "<V8jZO&R)V8{z@GaAF6u{dX8G2T`SS!?r+vhFAt(<_NBvrltK#bC`?0hsBzd*O<O)G>qKU0S`^pHr`Fg;IH6u6IX",
    "jK9jo7rFKi`=UQ;u5eAVm?AS0uLfv@p!<$<_ZoWj>OTsg;f|bZbVQWC?g7A(kL?bKlI@%)zv3#z$U?f053rp5=ls",
    "%-",
    "Q>@{gES?cQCYrI&lnF%iBK`_?!wR$|m*nJ$BZKf|`AZED6GOiKf0(O20oTlsLZHe2M`;+5V_wqq>P*ixFGKzkrv@",
    "mzB`0S<v7YL<`!nZL-",
    "+L$BsUEJ>MqJ5Mpa~q4{PJ=1yENvZG*`XEdpVekJA!1EAt1MXywhwtp3z+KW=`vhRv`ILGH+`T2V1D_0^86kDNBn",
    "2@^TQ`VY_(s^ICuZ!i$7mY<D0nx|2+?X2X8n0JKz5TU+4Jq",
)

INDEX = _bytes(
    "c-n<hO=uHA6n<|qyP2%oW>-@scv!{5o@`pXAfdep;?0XnL8zO$t-",
    ";MEWOx0+f=MWqQWP2wf`Vd|9Eyk_dMWYm<gFLAMJ=90Y<mht1TW6)E>i2kfj9g3zWu)U-",
    "pl~V46}qGq%$yDc7l@Y0V1hQ)#?m2rV%FdK%E+U%rh$=-",
    "*u5p{cmP3XO7R(25#@EmM=!?My(P5LqzB=(MX#&udnr|XisA+xhTk=-xlUMIk}bmBFN^klT#pd7phj#WnCH-",
    "j6uy#=WY{{`{TAZHAV7FA!(Th=9Ms`4AV#?wN!EJON@mUs1F#-93K2?f})<aUC-",
    "_<6fNNs7SIPdJ9OynhAd~!+f~<g;tB~KR6k<m%%#?e&nT(opy1fN-",
    "^kSGvigtdHb|;ns`!_=O4cCMOqk27jX6$?Io7zxlu(h-",
    "Cyay{4A082ZO6D%E?CZp=i3#Q(m=n;%@&sKsX(=JmNUk7#=TubKL4`|L!*$?imvbV7W??*k=+b(zoP#zE2GxWq*!",
    "r7DE8e_c5!ro&k&(a<OQDk?K>Pj%qvFdZE@(?-1=#WXh9#NF+7h3G1CvG*Fs}8p7)VJKdes9g%-",
    "PG^sz8*T~YHOX|7eWJ(i4Jo}-a6-",
    "{+P`fF2YN=AU~bBKW;gwmGL!4t%{vfG~N{Sz+RfVtduO{{%4ML0kHRwe9b%HxgTvy5Ya;)UVpif#B$;-!#OMga",
)

DATA = _bytes(
    "c-m{QXE?wB0S*id4M2PVh#4Fi7!-iG!5%0K<Szi?2S6+U6f=N|gVY}Y(NO&`F$btQ3!r8_fSM-",
    "&HPgUxPANl&%@gxFMg~T9sND>93|kr)>i_>|0vpB300#~KA)ub&KLRi@G8fjQCnhD6YBd1k*foI",
)

BOTH: dict[str, Any] = {
    "dense/kernel": np.arange(12, dtype="f4").reshape(3, 4),
    "dense/bias": np.array([1.5, -2], "f4"),
    "global_step": np.array(7, "i8"),
    "double": np.array([1e300]),
    "flags": np.array([True, False, True]),
    "ints/i1": np.array([-128, 0, 127], "i1"),
    "ints/i2": np.array([-1, 2], "i2"),
    "ints/i4": np.array([-(2**31), 5], "i4"),
    "ints/i8": np.array([-(2**63), 2**63 - 1], "i8"),
    "ints/u1": np.array([0, 255], "u1"),
    "empty": np.zeros((0, 4), "f4"),
    "rows": np.arange(12, dtype="f4").reshape(6, 2),  # in three slices
}
"""What both files hold, beside `names` (strings) and `columns` (slices side by side)."""
ONLY_V2: dict[str, Any] = {
    "half": np.array([1.5, -0.25], "f2"),
    "complex": np.array([1 + 2j], "c8"),
    "ints/u8": np.array([2**64 - 1], "u8"),
    "ints/u2": np.array([65535], "u2"),
    "brain": np.array([0x3F80, 0xC000], "u2"),  # 1 and -2 as bfloat16
}
