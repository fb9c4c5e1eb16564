-- Whether an answer that makes no entry of its own may leave: under the shared side of the epoch barrier, as
-- an append holds it, and with a record of its own, so that only what can commit answers it. The epoch when it
-- is the caller's, negated when it is another.
create function public.confirm_epoch(p_epoch bigint, p_instance uuid) returns bigint
language plpgsql as $$
declare
  now_epoch bigint;
begin
  perform public.require_read_committed();
  perform pg_advisory_xact_lock_shared(7411);
  perform public.require_open_instance(p_instance);
  perform pg_logical_emit_message(true, 'twofold', '');
  select epoch into strict now_epoch from public.security_epoch;
  return case when now_epoch = p_epoch then now_epoch else -now_epoch end;
end $$;
revoke execute on function public.confirm_epoch from public;
grant execute on function public.confirm_epoch to twofold_app;
