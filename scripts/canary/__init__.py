"""The weight between monolith and Task Service: decisions are pure, acts stand beside them.

Doors: :mod:`step` (one step, the ladder), :mod:`status`, :mod:`rollback`, :mod:`decisions` (the last one explained). `gates` (by
`limits`) and `ready` decide; `watch`, `readiness`, `cloudwatch` and `traffic` look; `way_back` goes back and proves it; `stage` puts
together what a command acts on.
"""
