
real	0m4.010s
user	0m0.130s
sys	0m2.892s
