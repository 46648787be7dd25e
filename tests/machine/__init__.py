"""Any command in any order, killed anywhere, beside another operator's: what must hold all the same."""
