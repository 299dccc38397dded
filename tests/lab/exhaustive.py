"""Tries every value of a parameter, one after another, through pyverbs: an independent answer to compare bounds with.

    exhaustive.py DEVICE PARAMETER=FIRST-LAST[,VALUE...] ...

Prints one JSON object: for each parameter the list of accepted values, as ranges.
"""

import json
import sys

from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.enums import IBV_QPT_RC
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError
from pyverbs.qp import QP, QPCap, QPInitAttr

# The ground that rdmadoctor starts from too; queue pairs are made with one parameter changed at a time.
BASE = {"max_send_wr": 16, "max_recv_wr": 16, "max_send_sge": 1, "max_recv_sge": 1, "max_inline_data": 0, "cq_depth": 64}


def accepts(context, pd, cq, parameter, value):
    ask = {**BASE, parameter: value}
    own = None
    try:
        if parameter == "cq_depth":
            own = CQ(context, ask["cq_depth"], None, None, 0)
        queue = own or cq
        cap = QPCap(
            max_send_wr=ask["max_send_wr"],
            max_recv_wr=ask["max_recv_wr"],
            max_send_sge=ask["max_send_sge"],
            max_recv_sge=ask["max_recv_sge"],
            max_inline_data=ask["max_inline_data"],
        )
        QP(pd, QPInitAttr(qp_type=IBV_QPT_RC, scq=queue, rcq=queue, cap=cap)).close()
        return True
    except PyverbsError:
        return False
    finally:
        if own is not None:
            own.close()


def values(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def main():
    context = Context(name=sys.argv[1])
    pd = PD(context)
    cq = CQ(context, BASE["cq_depth"], None, None, 0)
    found = {}
    for argument in sys.argv[2:]:
        parameter, _, text = argument.partition("=")
        ranges = []
        for value in sorted(set(values(text))):
            if not accepts(context, pd, cq, parameter, value):
                continue
            if ranges and ranges[-1][1] == value - 1:
                ranges[-1][1] = value
            else:
                ranges.append([value, value])
        found[parameter] = ranges
    json.dump(found, sys.stdout)


main()
