"""Figure 3 of Rezende & Mohamed 2015: flows fitted to four energies on the plane.

`energies` are the targets, `scheme` and `training` how flows are fitted, `restarts` many of them at once, `quadrature`
what they are measured by, `cells` what is run at each budget, `store` the files, `reproduce` all of it.
"""
