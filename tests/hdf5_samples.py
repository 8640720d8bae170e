"""HDF5 files that h5py 3.16 wrote, compressed: each has the attribute `model_config` = CONFIG."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

CONFIG = b'{"class_name": "Lambda"}'

_WRITTEN: Mapping[str, str] = {
    # what is different: (layout that was asked for, kind of text, user block)
    "earliest": (
        "c-rll%}&BV5XWbWm4-mXgadjaJ$cltry8mDK!m6VZ&>L{N%%-8i5kNl-@>EEK8BCso8Y#cF>M1R8V@GU?=t%"
        "}JKNoV=P)l$^Q=<ZFF}N1z!p>?%@PUg**?wRq7`TtXx}s%-;U?dUG1Li|60uYUtijGw0fC?;(X|dHGuh#IQB"
        "^=vNzZ#J-ut$b)$(VhusG`==-xErAzCFaRn4s>h}Qk`<T%$tko~W`c3PX^4LPp>n)-4OL4C*+D)N$rFe}(Hj"
        "aaRU*|X4#4i5#`THv4iwf1MsVp&cpX9VVc1JRZ$M*!pp4G2APhLU@k$DHQdP*E3m2W5kg+OsFTvJr-I!tE1o"
        "F1z62Dw`s;}GYk?Un#MVE!BmPmTkrtd`5W&t`Av20{F#=5fPpxuZMJHRrT%xWk%Z7=~dOhG7_nVVJ)H)iv^U"
        "`<3;Dqwm)j%HZI51!~GOsn7N%<NHBB8edx<N!J^&9ughx69HOg?f"
    ),
    "fixed": (
        "c-rlly-ve05XbG5(5Rv!2!_(B%ESmOQxGj=sAvTYY$Y_Nsgw_?sRRhIm$zWdqwolfyh(AAJ4m8Z3B-bWzvW{"
        "4&S&}l@o<b0tIV_2KB?E5wRE6qY>nyJf|8jz5I2isjK2oU!Op<O3eK;mYYmv!VgHwEG5+$r(@DJNB{0vsnpu"
        "rXwvt$#qkdwqV2pZtRf>Lo=m>9cC&nXp8s&6p{xUCTm4*7<1O46?^vk~0FG2dv>lfd#nOfFcM*olUUYzyXT<"
        "(hbT9slR3&yTWHCo0N{P*Si+JK63`L!co3D15IlR;qnB1-3XIZGq;&pXd5!8tF~0j-)72hY7X_yENW^P1pOm"
        "ER2(PF*qCm;M@tn@jT`r^mf6XK=vsIV6q<B9Zfd+axUz1VIo4K@bE%5X652`x@oG{lfmj!O!~(U;ET$oCf{b"
        "VHn(wN6Gv)&srN8_h<|~JBrc{igDO7y0(Ag*v8Wb^;Bk~"
    ),
    "newest": (
        "c-rmN%}T>S5CGswsy2iKLr|!mBo83<CLTm-u@Nf)U!bhb+7|KyNkK(C^^|L`zJ$<2J^L~~hEB3sDRdE!g7bw"
        "WY_c;uyO$~a?uBjcn+?MN>9YncF>cr2&x@iN_}v>F9&~qgqGalz0c>HI26mi=JR02d$!I*y7j=qV7dF=890!"
        "wYV#d3y!Ucup%zhCi%zi3Cy^M7Y&;Sc|@Pddv@@$Z>nCGyEAy`6ni!uz*HB_%E-<#ss_qUH=F%LTam33SuZd"
        "R!wosN0d2FH+7&y=~O_1L4|$DWq4Hb&xZ#d#0Y<Zd!j?+Bl*l^vAh%eU+h2qA?0KfO-SuNs7-Xmu#$NzUtL0"
        "kVOhCvO<BJg*w4cXHtMS$rEZ?^))3-KMi8gb+dqA%qY@{)#VognM%"
    ),
    "continued": (
        "c-rgqaB<`1lHy|G;9!7(|4_gn0pS}!#V>ih+UM`#62!z%!6byN5C*uI7#JBC*nrv?8F+K^Q&Mx{%TqJcGfIj"
        "#LyZs>Vqn44Cm_JU;K&G3v5pz4REPl!Ff=?I0C7SyJ||$ehR2tIfti7aK?DdHauO?3i{kSVb5n~MB!OChP5@"
        "(wGdLKS7=Zw4D~x7^NWsOP`){7)@9g2tQvouV9c(m1eo01ZkpY7M2TZ90*ep({8JuW7f|<<(rD5J@LADbJ*q"
        "}5!l!iqYrrm}EXt&V-+HE|5cAE^K-KGO*w;BEHwgc(m1=<YM0V!LO^YhX&(}B5{5i|D!NeLwFApQlL*^&&SU"
        "=)l31aNou_W@@b0W4J=5TvB$6{jL)TWFJjp;{?9C$YE~T!AWCDJc0Q<|d^iD%HZw-M~K@wxeJajDk@x3P!;w"
        "7zLwX6pVsVFbYP&U;zO56pw!"
    ),
}


def samples() -> dict[str, bytes]:
    """The files, by what they show."""
    return {name: zlib.decompress(base64.b85decode(text)) for name, text in _WRITTEN.items()}
