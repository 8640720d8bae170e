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
        "c-rk<e^3;46o1@d9w3N-dtfAZ3fxL6+yUaT3LJ1A#Bd0wjWMR2LP;Vjo|(l+)7X$rS~HGHm^Nt?10&d|*(fzO6"
        "Ol8HQ=?APuSv}xl#@+mBF<>LdwaZPzyCB%so;A9`}RKj-TUr-zTfx0?>&yaSDg8d(BKKddV>M{az~Nudf)351@"
        "Es<Y<4;G%X9(f4Y~+*OTPr`AOK)|1Ox(14Dy}TrD*8D9!N+?NJvOXNbX1J%kXY<lsQX53R`p#4orMB$Lf21)*s"
        "<CDtgIKJ@+5>7%2bvBtYJpMcuZ>f3#!Attz|QnJ-?E4q%*kY?;|S#&=XV*h_MazSvPNwt|{S9})&bHTG8u>%~3"
        ">dyDYlFTzlLhVOaD?k;wS{T?qAUq=Rr6aaMY-#Qvv<|44Tw>lX3NeGk-j17UN3<Qi(SH}S-U2=pEI9gzg0<IKW"
        "{LtISfwusGgx-Zl5GEo}^Jb3;%t81b*Nml;;dBwUxOL%;1n>w5gw0P$1TG$dqz|ik*zZIj%6i=jHXXj{uA)2XA"
        "egX4bI#P6;7v!smV7)DT;&MFU8=DG7l`lCvD`ZwxNvMSDkXgm2on$(<9;Fc<D};E_rEpR-GwFM_?tsjtoE#(3r"
        "!9LRul^FnuC4qqs)rI#F&+77k&Jfok8SQhN&p_-!vVEd#5F)6`JNCkhx(|E4cDhCQ`km9k^HoEMN9@f?!ABkLc"
        "I~;GKp**Y*>Kz%vDbtlM850S?fr_I5WO16wcxM_xVE3;ZK^O5IQ2i$E#@>pt0Y5?ooT>&VSJ1^he&9ELy7LTHH"
        "!IDG3H@Z=-#blawH!IOr-!L8<V;7vdvdvp5*a9I(kuqRvsE)#*oo31Osk4NCM_hb9OJPPmS^O)qT;7Z08ee?eM"
        "4P28E_%-L!P2dc8%AwcW?u3O}GVaRw3mjgFx2n7Z28t2bcROYt@UsvonslQKvceFsZW!eT!GgfG4X?RD^pb<X7"
        "seZIFbCl6ZI9bFAGm1MgxDWa0ZoYr+;nfO0Kta9cc-k+0B2V5zNK$9Tz(9Jy#CqGf>4IQs@8}G;Gz&X>O9;4e2"
        "nVm_FilN+e3I^7f<vzKueMc*gyuZ1ny}BejJ`s&{eq!ga`zhw&ZOA&!Y&me%iYOgsG}4ozlJ&cpicN?(@yS=OS"
        "=9=K5Q}<sdMvta>+aDG0pxcK5zcVf4%Y>G(U!%L@hrod9uyo{{bx^i=>YGo-zinesMU4lE7;xa8o&Wt6uM%iB2"
        "l+z-UKV61%ZL4abtv{yV@-iFA>e*}nk$$Ps)z~h$oHh$C??r`SY2Wv_oMGVa|vOzBfF$O7Ws?5lMNRj&iITiv~"
        "|G<ihl9@z_mXb`OL`%smqC^%7@<>QXNJvOXNJvQT7a5xWOZ5*v{75aPG3gdcV>Fpvx|Jx=Qj$iLXemi2O0<+vE"
        "s>#wYKaUbR7+$ip;{tSUQHoNw3MV0C0a@-dSxh~=#`;_qF06zie4X#zg`W^|D_MrtWI9=5>A9Pnh09kNTW1{p@"
        "h;Hh7w9+7)mIOVKO^PV;D*(jk$}V$I$g(`nY4_YGVhEhLzlyc7j^TjWM2`+!#X%xiN+ks>U#sP&J03gsL(3Z2g"
        "!1xg%@Z<`UInM{bN+|H+Lpl#m-^C?Pk-P(rmth7zhJGL%p)@t&>!@#62fuB69tG%V!Cv=h`qZj7OX+!#X%xiN+"
        "kswFa%P%V*J|EZSfrzF%zNp0P-suhcu)~&2w{*=s3w8G8vrll(?>+2V<tgNjv+2T#bm9?H_m8OP&z5Ywj6p0nG"
        "R;eZ^<^PP$QvT0SLizt)jM@Lc_+N4?Z9j)~<H)AcnysDeskCM@_D^f}h_HX@Nlj}OEfiFfoswO~{wdjID4}F`M"
        "A*OdaLEasC#S1MmV#YovQx0jP(oGW5n=z*BZQwj78#@my)v>C>oRklVqJz3DiRG-^VitF^!!`H>4`;X{}k)`C%"
        "c~!3U#%NP>E=`TEEu*rKjw-?-;1Vv87m7JKHJL)iOdQqLE_%lKie~-i2dJ!LD|;Q>?3Hgi1ui+5QVP_TRQr(KU"
        "*$R<uXaPb&HeMK4fvnWBpnZCA8S(H2FU6s>$MlJ?6k*S4+u`frZKh+z"
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
