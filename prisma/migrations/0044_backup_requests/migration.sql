-- A request for a backup that is repeated under its idempotency key is answered with the backup that it began.
-- The key is of who asked: issuer and subject.
alter table public.backup add column request_key text, add column request_hash bytea;
alter table public.backup add constraint backup_request check (
  (request_key is null) = (request_hash is null) and (request_key is null or issuer is not null)
  and (request_hash is null or octet_length(request_hash) = 32)
);
-- One is taken at a time, so that no two requests begin together; a key may be used again after a day.
create index backup_request_idx on public.backup (issuer, subject, request_key, created_at);
grant update (request_key, request_hash) on public.backup to twofold_app;

-- What was counted as killed and is whole in its folder after all is one that was taken.
drop trigger backup_ends on public.backup;
create trigger backup_ends before update on public.backup
  for each row when (
    new.id <> old.id or new.created_at <> old.created_at or (
      old.state <> 'running' and not (
        old.state = 'failed' and old.problem is not distinct from 'interrupted'
        and new.state = 'complete'
      )
    )
  )
  execute function public.refuse_change('a backup ends once');
