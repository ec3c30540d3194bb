"""Lockstep: does the parallel run compute what the serial run computes, and how much faster is it?"""
