-- Every table of the database and its number of rows, in byte order of their names.
SELECT format('SELECT %L, count(*) FROM public.%I', relname, relname)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
ORDER BY relname COLLATE "C"
\gexec
