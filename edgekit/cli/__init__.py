"""The command line: one file per command, found by its name. click lives here only.

A file ``edgekit/cli/<name>.py`` holds ``command``, a click command made by ``@edgekit_command``. It turns
strings into nouns, calls the public function of the same name, and returns an ``Outcome``.

What runs them is ``_group.run``. It is not given from here, for ``edgekit run`` has a file of that name.
"""
