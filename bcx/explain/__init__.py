"""Attribution methods behind one function, and checks of one map: `methods.explain`, `checks.check`."""
