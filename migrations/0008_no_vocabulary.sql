-- Corrections look for a word's neighbours among the postings; the list of words was never read.
DROP TABLE vocabulary;
