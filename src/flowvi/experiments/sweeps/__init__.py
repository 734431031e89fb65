"""What `flowvi.sweep` is made of: the grid, the jobs' standing on the disk, the engines, what a person sees.

A job is a run folder, and the folder says how the job stands: no engine and no other file knows more than it.
"""
