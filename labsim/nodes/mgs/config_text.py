"""What a configuration log says, for people: a line of YAML for each command.

Pure. Stands for class_config_yaml_output (obd_config.c) with its table of names (lustre_cfg.h).
"""

from __future__ import annotations

from collections.abc import Mapping

from labsim.base.ids import Nid
from labsim.wire.config_log import Command
from labsim.wire.llog_flags import (
    LCFG_ADD_CONN,
    LCFG_ADD_MDC,
    LCFG_ADD_UUID,
    LCFG_ATTACH,
    LCFG_LOV_ADD_OBD,
    LCFG_MARKER,
    LCFG_MOUNTOPT,
    LCFG_PARAM,
    LCFG_SET_PARAM,
    LCFG_SETUP,
)

EVENTS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    LCFG_ATTACH: ("attach", ("type", "UUID", "3", "4")),
    LCFG_SETUP: ("setup", ("UUID", "node", "options", "failout")),
    LCFG_ADD_UUID: ("add_uuid", ("node", "2", "3", "4")),
    LCFG_MOUNTOPT: ("new_profile", ("name", "lov", "lmv", "4")),
    LCFG_ADD_CONN: ("add_conn", ("node", "2", "3", "4")),
    LCFG_LOV_ADD_OBD: ("add_osc", ("ost", "index", "gen", "UUID")),
    LCFG_ADD_MDC: ("add_mdc", ("mdt", "index", "gen", "UUID")),
    LCFG_PARAM: ("conf_param", ("parameter", "value", "3", "4")),
    LCFG_SET_PARAM: ("set_param", ("parameter", "value", "3", "4")),
}
"""A command's name, and those of its buffers from the second on (lcfg_data_table)."""


def line(index: int, command: Command) -> str:
    """One record; nothing for a marker."""
    if command.command == LCFG_MARKER:
        return ""
    event, names = EVENTS[command.command]
    words = [f"index: {index}", f"event: {event}"]
    if command.nid:
        words.append(f"nid: {Nid(command.nid)}({command.nid:#x})")
    if command.bufs and command.bufs[0]:
        words.append(f"device: {command.text(0)}")
    if command.command == LCFG_SET_PARAM:
        name, _, value = command.text(1).partition("=")
        words += [f"{names[0]}: {name}", f"{names[1]}: {value}"]
    else:
        words += [
            f"{name}: {command.text(number)}"
            for number, name in enumerate(names, start=1)
            if number < len(command.bufs) and command.bufs[number]
        ]
    return f"- {{ {', '.join(words)} }}\n"
