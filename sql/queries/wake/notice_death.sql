-- Lets the server notice within half a minute that the other end of this session has gone: its seats would be told in vain.
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '4', false), set_config('tcp_user_timeout', '30000', false)
