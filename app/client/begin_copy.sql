-- Makes sure that this session has its empty staging table for COPY.
SELECT tandem.begin_copy() AS begun
