-- A change of a program that asks nobody whether a grace is held is refused while one is.
--
-- An instance with a grace answers without a commit because every change waits for it or fences it
-- (migration 0040). Programs from before that migration wait for nobody, and may still run when the first
-- instance with a grace starts. What they commit then is undone at its end, under the barrier that the start
-- of an instance with a grace takes too; to them it is an outage (55P03: not applied).

-- In the order in which changes take them, since a later file of the same transaction wants the first.
lock table public.entry, public.security_change in access exclusive mode;

-- As before; it notes in the transaction that it was asked.
create or replace function public.grace_held(p_epoch bigint) returns boolean language plpgsql volatile as $$
begin
  perform set_config('twofold.grace_heeded', 'yes', true);
  return p_epoch > 0 and exists (
    select from public.instance where grace_ms > 0 and not closed and not fenced
  );
end $$;

create function public.require_heeded_grace() returns trigger language plpgsql as $$
begin
  if current_setting('twofold.grace_heeded', true) is distinct from 'yes' and exists (
    select from public.instance where grace_ms > 0 and not closed and not fenced
  ) then
    raise exception 'this version waits for no instance with a grace, and one is there: run a newer one'
      using errcode = '55P03';
  end if;
  return null;
end $$;
revoke execute on function public.require_heeded_grace from public;

-- At the end of the transaction, when the program has asked if it ever does.
create constraint trigger security_change_heeds_grace after insert on public.security_change
  deferrable initially deferred for each row execute function public.require_heeded_grace();
