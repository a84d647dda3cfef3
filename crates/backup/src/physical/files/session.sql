-- idle_session_timeout would end backup mode in the middle
set statement_timeout = 0;
set lock_timeout = 0;
set idle_session_timeout = 0
