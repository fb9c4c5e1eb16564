/** Sealed sets in memory, with the rules of their SQL: history appends, seals only go on. */
import { createHash } from 'node:crypto';
import { KEY_SET_PREFIX } from '../../src/keyring/set-ports.ts';
import type { Attested, KeyWrite } from '../../src/keyring/ports.ts';
import type { SetMember, SetSeal, SetStore, SetWrite } from '../../src/keyring/set-ports.ts';
import { TwofoldError } from '../../src/errors.ts';

export interface SetRows {
  readonly seals: Map<string, Attested<SetSeal>>;
  readonly members: Map<string, Attested<SetMember>>;
  readonly history: Attested<SetMember>[];
}

const KINDS: readonly string[] = [
  'insert-namespace',
  'require-empty-namespace',
  'put-member',
  'put-seal',
  'require-seal',
] satisfies readonly SetWrite['kind'][];

export const isSetWrite = (write: KeyWrite): write is SetWrite => KINDS.includes(write.kind);

export const noSets = (): SetRows => ({ seals: new Map(), members: new Map(), history: [] });

export const copyOfSets = ({ seals, members, history }: SetRows): SetRows => ({
  seals: new Map(seals),
  members: new Map(members),
  history: [...history],
});

const setSlot = (kind: string, namespace: string) => JSON.stringify([kind, namespace]);
const slotOf = ({ kind, namespace, name }: SetMember) => JSON.stringify([kind, namespace, name]);
const byName = (a: Attested<SetMember>, b: Attested<SetMember>) =>
  Buffer.compare(Buffer.from(a.value.name), Buffer.from(b.value.name));

export function applySet(rows: SetRows, write: SetWrite): void {
  switch (write.kind) {
    case 'insert-namespace':
    case 'require-quota':
      // What the database alone counts.
      return;
    case 'require-empty-namespace':
      if (kindsOf(rows, write.name).length > 0) throw new TwofoldError('conflict');
      return;
    case 'put-member': {
      const slot = slotOf(write.row.value);
      rows.history.push(write.row);
      if (write.row.value.value !== null) rows.members.set(slot, write.row);
      else if (!rows.members.delete(slot)) throw new TwofoldError('conflict');
      return;
    }
    case 'put-seal': {
      const { kind, namespace } = write.row.value;
      requireRevision(rows, kind, namespace, write.expected);
      rows.seals.set(setSlot(kind, namespace), write.row);
      return;
    }
    case 'require-seal':
      requireRevision(rows, write.set, write.namespace, write.revision);
  }
}

function kindsOf({ members }: SetRows, namespace: string): readonly string[] {
  const own = [...members.values()].filter(({ value }) => value.namespace === namespace);
  const kinds = new Set(own.map(({ value }) => value.kind));
  return [...kinds].filter((kind) => !kind.startsWith(KEY_SET_PREFIX)).sort();
}

function requireRevision(rows: SetRows, kind: string, namespace: string, revision: number): void {
  const standing = rows.seals.get(setSlot(kind, namespace))?.value.revision ?? 0;
  if (standing !== revision) throw new TwofoldError('conflict');
}

const sha256 = (said: Uint8Array | string) => createHash('sha256').update(said).digest();
const withDigest = (row: Attested<SetMember>) => ({
  ...row,
  digest: sha256(JSON.stringify([row.value, Buffer.from(row.mac).toString('hex')])),
});

const newestOf = (history: SetRows['history'], kind: string, namespace: string): number =>
  history
    .filter(({ value }) => value.kind === kind && value.namespace === namespace)
    .reduce((newest, { value }) => Math.max(newest, value.revision), 0);

export const memorySets = (rows: () => SetRows): SetStore => ({
  set: (kind, namespace) => {
    const { seals, members, history } = rows();
    const own = [...members.values()].filter(
      ({ value }) => value.kind === kind && value.namespace === namespace,
    );
    const seal = seals.get(setSlot(kind, namespace)) ?? null;
    const newest = newestOf(history, kind, namespace);
    return Promise.resolve({ seal, newest, members: own.sort(byName).map(withDigest) });
  },
  since: (kind, namespace, _epoch, revision) => {
    const { seals, members, history } = rows();
    const isOfSet = ({ value }: Attested<SetMember>) =>
      value.kind === kind && value.namespace === namespace;
    const own = [...members.values()].filter(isOfSet).sort(byName).map(withDigest);
    const rest = own.filter(({ value }) => value.revision <= revision);
    const removed = history.filter(
      (row) => isOfSet(row) && row.value.revision > revision && row.value.value === null,
    );
    return Promise.resolve({
      seal: seals.get(setSlot(kind, namespace)) ?? null,
      newest: newestOf(history, kind, namespace),
      written: own.filter(({ value }) => value.revision > revision),
      removed: removed.map(({ value }) => value.name),
      rest: sha256(Buffer.concat(rest.map(({ digest }) => digest))),
    });
  },
  kinds: (namespace) => Promise.resolve(kindsOf(rows(), namespace)),
  history: ({ kind, namespace, name, before, pageSize }) =>
    Promise.resolve(
      rows()
        .history.filter(({ value }) => value.kind === kind && value.namespace === namespace)
        .filter(({ value }) => name === null || value.name === name)
        .filter(
          ({ value }) =>
            before === null ||
            value.revision < before.revision ||
            (value.revision === before.revision && value.name < before.name),
        )
        .toSorted((a, b) => b.value.revision - a.value.revision || byName(b, a))
        .slice(0, pageSize),
    ),
  membersAt: (kind, namespace, revision) => {
    const newest = new Map<string, Attested<SetMember>>();
    for (const row of rows().history) {
      const { value } = row;
      if (value.kind !== kind || value.namespace !== namespace || value.revision > revision)
        continue;
      newest.set(value.name, row);
    }
    return Promise.resolve(
      [...newest.values()].filter(({ value }) => value.value !== null).sort(byName),
    );
  },
});
