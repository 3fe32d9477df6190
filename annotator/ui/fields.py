"""The initial value of a keyed widget, set again when what it comes from has changed.

Streamlit keeps what a keyed widget holds for as long as it is drawn, whatever `value=` or `index=` says by then. So the
value of a field that comes from something which can change (a folder, the settings of a project) is set here.

A browser learns of a value that was set in the run that sets it, and not where the field is out of sight then, as in a
popover that is closed. So such a field is given `held(key)` as its `value=` or `index=` too, and the configuration
silences Streamlit's warning that this is said twice.
"""

from __future__ import annotations

from typing import Any

import streamlit as st


def starts_from(key: str, value: object, basis: object = None) -> str:
    """The widget's `key`, for a widget that is given no other `value=` or `index=` beside it.

    It holds `value` when it is first drawn, and again as soon as `basis` (without one: the value) is another than at
    the last run. In between it holds what a person typed.
    """
    now, basis_key = value if basis is None else basis, f"{key}:starts-from"
    if key not in st.session_state or st.session_state.get(basis_key) != now:
        st.session_state[key] = value
    st.session_state[basis_key] = now
    return key


def held(key: str) -> Any:  # Any: whatever the widget of that key holds
    """What a field holds at this moment, by the key that `starts_from` gave."""
    return st.session_state[key]
