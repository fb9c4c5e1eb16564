/** How much versions are used, by whom, and since when no more: sums over all instances. */
import { TwofoldError } from '../errors.ts';
import type { Usage } from './lifecycle.ts';
import type { Key, KeyVersion } from './model.ts';
import type { AfterUser, UsageTotal, UseStore, UseSum } from './ports.ts';
import { OTHERS } from './use-ledger.ts';
import type { UseLedger } from './use-ledger.ts';

export interface Uses {
  readonly uses: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
}

/** Uses of one version through the service; what is made with its public key elsewhere is not seen. */
export interface VersionUses {
  readonly version: number;
  /** Wraps, encapsulations, signatures, MACs; null when there was none. */
  readonly protect: Uses | null;
  /** Unwraps, rewraps from it, decapsulations, verifications; null when there was none. */
  readonly process: Uses | null;
  /** Protecting uses that were reserved, in blocks of which the last may not be used up. */
  readonly reserved: number;
}

export interface KeyUses {
  /** Earlier uses are in no sum. */
  readonly countedSince: Date;
  /** Of the versions asked for, ascending, those that were used or reserved. */
  readonly versions: readonly VersionUses[];
}

export interface VersionUser extends Uses {
  readonly usage: Usage;
  /** Null: everyone beyond those that an instance tells apart, as one. */
  readonly principal: { readonly issuer: string; readonly subject: string } | null;
}

/** Versions of a key, both included. */
export interface VersionRange {
  readonly from: number;
  readonly until: number;
}

/**
 * For whoever has checked a grant on the key: routes, and the dry run of a change. What this instance
 * has counted is in the sums; what others have, up to their last flush some seconds ago.
 *
 * @throws TwofoldError database_unavailable
 */
export interface UseReport {
  usesOf(keyId: string, versions?: VersionRange): Promise<KeyUses>;
  /** The most recent use first; whoever uses the version meanwhile moves before the pages to come. */
  usersOf(
    keyId: string,
    version: number,
    limit: number,
    after?: AfterUser | null,
  ): Promise<{ readonly items: readonly VersionUser[]; readonly next: AfterUser | null }>;
  /** Each with the sums over these versions, the most recent use first. */
  usersOfAll(
    keyId: string,
    versions: readonly number[],
    limit: number,
  ): Promise<readonly VersionUser[]>;
}

/** What a dry run tells of the version that a change is about, or of all when it is about the key. */
export interface UsesAbout {
  readonly version: number | null;
  readonly uses: KeyUses;
  /** Of the versions whose use the change touches, the most recent use first. */
  readonly users: readonly VersionUser[];
  /** Of an alias that moves: the key that loses it, and who used any version of that. */
  readonly from?: { readonly key: string; readonly users: readonly VersionUser[] };
}

/** What a change is about. */
export interface Affected {
  /** Null: the key. */
  readonly version: number | null;
  /** Versions whose users are named. */
  readonly users: readonly number[];
  /** The key that loses an alias. */
  readonly from?:
    | {
        readonly key: Pick<Key, 'id' | 'name'>;
        readonly versions: readonly Pick<KeyVersion, 'version'>[];
      }
    | undefined;
}

const ALL: VersionRange = { from: 1, until: 2 ** 31 - 1 };

/** Principals that a dry run names. */
const USERS_OF_CHANGE = 20;

/** @throws TwofoldError database_unavailable */
export async function usesAbout(
  report: UseReport,
  keyId: string,
  { version, users, from }: Affected,
): Promise<UsesAbout> {
  const range = version === null ? ALL : { from: version, until: version };
  const uses = await report.usesOf(keyId, range);
  const about = { version, uses, users: await report.usersOfAll(keyId, users, USERS_OF_CHANGE) };
  if (from === undefined) return about;
  const { id, name } = from.key;
  const every = from.versions.map((each) => each.version);
  return {
    ...about,
    from: { key: name, users: await report.usersOfAll(id, every, USERS_OF_CHANGE) },
  };
}

export function useReport(store: UseStore, ledger: Pick<UseLedger, 'flush'>): UseReport {
  /** First, so that one statement of the database's has everything, and nothing twice. */
  const flushed = async () => {
    try {
      await ledger.flush();
    } catch (error) {
      throw new TwofoldError('database_unavailable', undefined, { cause: error });
    }
  };
  return {
    usesOf: async (keyId, versions = ALL) => {
      await flushed();
      const [{ countedSince, totals }, counters] = await Promise.all([
        store.usesOf(keyId, versions),
        store.countersOf(`${keyId}/`),
      ]);
      const reserved = new Map(counters.map(({ counter, used }) => [versionIn(counter), used]));
      const within = [...reserved.keys()].filter(
        (version) => version >= versions.from && version <= versions.until,
      );
      const used = new Set([...totals.map(({ version }) => version), ...within]);
      return {
        countedSince,
        versions: [...used]
          .toSorted((a, b) => a - b)
          .map((version) => ({
            version,
            protect: usesIn(totals, version, 'protect'),
            process: usesIn(totals, version, 'process'),
            reserved: reserved.get(version) ?? 0,
          })),
      };
    },
    usersOf: async (keyId, version, limit, after = null) => {
      await flushed();
      // One more than asked tells whether another page exists.
      const rows = await store.usersOf(keyId, version, { limit: limit + 1, after });
      const shown = rows.slice(0, limit);
      const last = rows.length > limit ? shown.at(-1) : undefined;
      return { items: shown.map(userOf), next: last === undefined ? null : last };
    },
    usersOfAll: async (keyId, versions, limit) => {
      if (versions.length === 0) return [];
      await flushed();
      return (await store.usersOfAll(keyId, versions, limit)).map(userOf);
    },
  };
}

/** The version whose counter it is (`handleId`). */
const versionIn = (counter: string): number => Number(counter.slice(counter.lastIndexOf('/') + 1));

function usesIn(totals: readonly UsageTotal[], version: number, usage: Usage): Uses | null {
  const found = totals.find((total) => total.version === version && total.usage === usage);
  if (found === undefined) return null;
  const { uses, firstAt, lastAt } = found;
  return { uses, firstAt, lastAt };
}

function userOf({
  usage,
  issuer,
  subject,
  uses,
  firstAt,
  lastAt,
}: Omit<UseSum, 'version'>): VersionUser {
  const others = issuer === OTHERS.issuer && subject === OTHERS.subject;
  return { usage, principal: others ? null : { issuer, subject }, uses, firstAt, lastAt };
}
