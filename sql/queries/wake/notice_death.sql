-- Lets the server notice within half a minute that the other end of this session has gone: its seats would be told in vain. A
-- server that is stricter stays so.
SELECT set_config(s.name, least(nullif(s.setting::integer, 0), u.most)::text, false)
FROM (VALUES ('tcp_keepalives_idle', 10), ('tcp_keepalives_interval', 5), ('tcp_keepalives_count', 4), ('tcp_user_timeout', 30000)) AS u(name, most)
JOIN pg_settings AS s ON s.name = u.name
