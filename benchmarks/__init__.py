"""Side-by-side measurements. Figures move with the machine; ratios carry.

disciplines   what is measured, by name
table         rows of samples
parts         the programs that yield them, in the order of a run; each of them can be run by itself, too
clauses       what is asked, as data
judge         how the rows stand to it, and two runs to each other
report        a run as text: in a terminal, and in README.md
plots         a run as pictures
"""
