"""Comparisons: arms that differ in what is compared, each trained and tested with the same seeds.

Figure 4, Table 2 and the ablations are data for this machinery.
"""
