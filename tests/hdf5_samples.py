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


_DENSE: Mapping[str, str] = {
    # what is different: apart from the header
    "dense": (
        "c-rgqaB<`1lHy|K;9!7(|4_gn1K}G$#Xo;KcG2I%C5Vaf6C;xlvPu}>Vq#!qU=S5zU}0d;V}j^90HqoBFfxpSp"
        "$p8<+~sf!@(5r6B@`wG0S1ipat9j0&tNgmf<{9D7m+ryAnAk{tpTDXU}9INI(~Nw@o)jU2xy}qP$Wgef*EE9%$"
        "66XOMBdcfvOl_?qg&?r4jZ8FjN5TfXP^}Ld2yRQ0a-rt$&<CeB6NcHi1-{fP#R5;k|f(GD95$LST;9e^Z7{NCI"
        "mzOKlmvkOZd5PYGp^LNep&sUNiruRsD;5P=sg^BWk%khCn`+pvdW8<LhC-RDm*JVR1(TvGcDgCCNLtrJ%M-?#e"
        "WjnOnrJ>V7`><UlljKGwo0%mg_3lbd-oKY}jfV;E554f}wz+NUYq4Ak9%V-q9ipFO{<FljjInel=INX`QKN?q~"
        "U=)mkQ7{Td!6+C7qhJ(_f>AIEMgh6N&BMhBK2#3|RtGiqF$4SgBA~u~q5*>>BO`clKma~Ez=0SQ;6RKTAoLg#r"
        "H2Vcj}cLNm{If?6Qzd*MUM$ldRS5Pm=dLj4MmR`QF_=>^q3Q+hXX~A1yOo9!FqUsT%exZ{FKz3_~iV&w9Iq{VL"
        "`}%I!H&gQgTjWadCWJVs5IEm4cE_Vs27OqEhW>E*ZW60CLxnF8"
    ),
    "dense, two levels and rows": (
        "c-rmRe@v8h7y$6+4iMxwhzExVc=F=}e{dWJc!2WrL}iF@u9`7Lg;GIkW;v3gHaD@U>C!YU+%(ErYAwvASh)pcn"
        "O0j{KWr-#g}H2!smQdud+&Ikr~2dBV>R9Uj_tks@_yd$_xnE2^B#P!wY1n4<R9(t<>v>UcH7-xqVhh?-CtJWlQ"
        "^fexKgXRqS1!qGd;~;3mSmY;ouE0S*xgz+($U3f&1;=ZCRh6^|Mu$R)8~6v=9n^%a=j-`(97PL;v|WgE^wN>ql"
        "uy?id}%247FlhK!Vhh4#{7$BY~!hB<nc7_)tp-)e_P8SIGlwN*LJf<g7V<fx8U0jnKjct*>1k7NOQJk_!Oxk7u"
        "H%`vV$Na=SJ3miPK$rt(q)s6){b^c)YQ9H^9Ljs_6q}mY~aVZS?oug$a9Y;$dBcM81J>$ooJ{`26izfCw6bb#_"
        "YR9ryx(x6<y2j<mit*5jCU*1O=0w=yuXY5_OG|<{G_mCO>n1=PA`#}RW_SkFi|(3r+XAhK?8r~a0y|oZHTC0c7"
        "(!Ez>s@ArchNQ8TDmF^)@ju<e9|n_U^ZGypnXk2?}eJxcYie$+GmzK;vb7v6WsO04Cp|is-KzrdbXExegs4-FZ"
        "2+lyoj=Np3vTZtlXo`R#jCp{Gih~>f)v=&|1f5<r&vw<4l0-H(LRghd5t-*7iV`t#oGL@aH19pJ+-;a3AB{#~9"
        "^s?%UkP|8yNQisqDQ(6d?dmwBybHm%Tk37xml`3T(zq4O0wKcO2bbpApYAasF37bJASLKh-*p+XlXbm2lbO6Ve"
        "lZnV(pgf3F(qJ&N_bkRaLM(ARMZmiJ73SFGg#S7gyp)&~Gc%e%Wx<sK%61rreGYZ`Vp-U0ERH2(Fbd!W`vd~Qt"
        "x-_9P30=C-nT0Mx=qy5)DRfyvmo0Qth0ZE;IYO5!ba_HIP3WczUB1v22wkDj6$xFj(3J?CP3S!TXYami_px02m"
        "^wdo+iH8dz8!|pc42l?bvx+L#+J2i;eKdA`*!JH_8o+s0cyuURLncD(^u^{wC!XE450nPoLgTV0Ug>M+|$`|3="
        "X4x%p)(H?tu<8O5-nQd!Pl)^vMs~PC+%AX?j7?Y1o4HAZ>oXe*;F`arowUFdMDq(S2*bhd8v4`Q9euPhcFOc1&"
        "Nt{~YwAVdobn_QG*Ql5Who2oHOy9iO}z(+9n1aozgVOJG9xqi^mXzrk^IKYq>cy#eKD`5iCryZv>oVeS7C|IKL"
        "ft7@ytVE}Cg@4cm;3j=7qv&LPkgetW4X>RhdLkGG=mzy@&p&Lc!)5vRfn1$}hwz!w(K^Gb}=Rm-Gs7CkwhW*+3"
        "U_{sW;k0=<Y(ZxvZR~p-j-#0tUC(<8x>2|vYY%URWHidr(!<T5LrJxF&-rGEM)&>v$?MHva{k|MRXQ$ux3xegT"
        "5ZXpnze8Rb*$T1v=Qo1blXq#ybMElrV0DELpSQU-ud$ms6!QVL4WmCFrkh~m36PdY;;fG*xk8z(c2$f{&)8=ON"
        "-H#q_ZyKx9$q}0&j?Lem_!Uv4CEqaqSL<4sQ>-zHd<;h3<VS=bsA*WwOvzin3V9N>Mfo<xn)0g>nhXOk<%uicB"
        "mtjiPiGnog0Kh4LxNV4(tvco|Vh5icW(DB@*AF-5$LD4~d#5jGbJa=dk*hQ=ke^$Qj^uBco32#g8?*Y`S3@w8!"
        "aea*_13s%%L)EcbuhO(N5MN4W7&3EVb7^ME4>%6q)izfBXn0YZsBDd4bi$O9)ycie>%HUPy1d4c7nL-h-DpM)q"
        "RpmsAcvU%xB3@NarifRSQz+tPL>fiBj4)Be%ZPOPaOY)&nIc|BWKhJ*2n$8LjL4*jml0WaT>s9$iypkP(5Mb=;"
        ">93>%r~7EgV7Z6VxXgl7lTNOcrl2gh!+DrMZBtvrifRSV<_TPWei2UsvJuZFC${<!=0BAaTM_~BAy~%MvS9~mk"
        "|bvco{LCB3?!$P{hlK#5=BkXR9A-OY?FJt_;nKo5nR=kKu()OAIe+Uc~T%=1mMQW<JF5LN<aJUc`Kf;gzr-F}w"
        ";MNer)m{YeU%c!>}|5ib)0DdMF<5JkLP2&Raa3?UTpvLTcrUOI$P#LI_pig*d(`Pv`;1bn|<lK"
    ),
    "huge": (
        "c-rmNF-sd^7zgm@E*U~VFcv|Jpk#7%?$!`P20;-AH@O-sqKShP3Z)>lP&>NSsZ$pRDHOWt$LL2W?tXywJag5G#"
        "U)eu{W!S0_x|t0!`;F2vD@y9)t}ZYwOW*Z4V_LW#r?u?{bFY4!*aL1n#SvN;%=~1Pb1$kIT6)}Z^KQC$?&2TBa"
        "p4nUUgQxD{<Xz8siaV`Q7C2WZBbW6;B&C8<T%LuNFt#$;{{H+v@Kx&rVuv-FDtl8qvs~_vVi)WxlL>eBSs{q>}"
        "5@)J-b6pZf9X)z{YAQYT-iJ>1>T^}%%TA1l6pZ9Mt&8%JDLKOcU7{_fn%0Y<43WBIJfCtQEOx3#yixj%ThvmH<"
        "JId;@2W>vgtZti6V2OEQ|ztwy;*Idf_FM3(??Hm9A000000000000000000000000000000000000000000000"
        "0000000000000000000000000000000000005EdD0V98j3I"
    ),
}


def samples() -> dict[str, bytes]:
    """The files, by what they show."""
    return {name: zlib.decompress(base64.b85decode(text)) for name, text in _WRITTEN.items()}


def dense_samples() -> dict[str, bytes]:
    """Files whose attributes are apart from the header: many, so many that their tree has two
    levels and their heap rows of blocks, and one that is longer than a block.
    """
    return {name: zlib.decompress(base64.b85decode(text)) for name, text in _DENSE.items()}
