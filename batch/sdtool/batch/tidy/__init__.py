"""A folder of models made safe and small: a plan first, and everything can be put back.

look      what is known of each file: its verdict, its kind, what would be written in its place
groups    files that are one model: a sharded set, a folder of diffusers
programs  what the program that reads the folder takes
plan      what becomes of each file, decided from those two alone
proving   what takes a file's place, written aside and compared with it
doing     a plan carried out: outputs are proven first, originals only move
lock      one run on a folder at a time
places    where files are when they are not in their places, and what was moved
undo_list what is moved, on the disk before it is moved
steps     steps done, finished after a kill, taken back, or let go of for good
"""
