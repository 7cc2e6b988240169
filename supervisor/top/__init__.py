"""``supervise top``: a mesh at a glance, once a second. rich is imported here and nowhere else.

facts           pure: answers of the supervisor in, what is to be seen out: rates, and when slots had incidents
matrix          pure: the links of all nodes as cells
figures         pure: numbers as short texts
picture         pure: the main view, as lines of rich's ``Text`` for a terminal of a given size
pages           pure: what lies over it: the links alone, logs, a story, the keys
keys            pure: what was typed
conversation    questions to the supervisor, without ever waiting for an answer
screen          the terminal: the alternate screen, keys as they are typed, and everything as it was at the end
session         the loop around all of them
frame           one picture, off a terminal
"""
