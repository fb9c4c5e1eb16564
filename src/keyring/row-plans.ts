/** Plans that change the rows of an existing key and make nothing else. */
import { versionOf } from './catalog.ts';
import { plainPlan } from './changes.ts';
import type { Plan } from './changes.ts';
import { transition } from './lifecycle.ts';
import type { VersionEvent } from './lifecycle.ts';
import type { Key, KeyVersion } from './model.ts';
import type { KeyView, PreparedChange } from './operations.ts';
import type { KeyWrite } from './ports.ts';
import { withStandingHold } from './rotation-hold.ts';
import { attestKey, attestVersion } from './row-mac.ts';
import type { RowMac } from './row-mac.ts';
import { usedOf } from './selection.ts';

/** The facts of a change, for its audit entry. */
type Detail = PreparedChange['detail'];

/** The primary version, else the latest: the one that stands for the key. */
export function standing(view: KeyView): KeyVersion {
  return versionOf(view, view.key.primary ?? view.key.latestVersion);
}

export async function planKeyChange(
  mac: RowMac,
  view: KeyView,
  fields: Partial<Key>,
  detail: Detail,
): Promise<Plan> {
  const key = withStandingHold({ ...view.key, ...fields, revision: view.key.revision + 1 });
  const after = { key, versions: view.versions };
  const used = usedOf(key, standing(after));
  return plainPlan({ before: view, after, used, detail, changes: true }, [
    { kind: 'update-key', row: await attestKey(mac, key), expected: view.key.revision },
  ]);
}

/** @throws TwofoldError version_not_usable */
export async function planVersionChange(
  mac: RowMac,
  view: KeyView,
  change: {
    readonly version: KeyVersion;
    readonly event: VersionEvent;
    readonly detail: Detail;
    readonly before?: KeyView;
  },
): Promise<Plan> {
  const { version, event, ...rest } = change;
  return planVersionRow(mac, view, { version, changed: transition(version, event), ...rest });
}

/** As `planVersionChange`, to a row that no transition makes, with what else is written. */
export async function planVersionRow(
  mac: RowMac,
  view: KeyView,
  change: {
    readonly version: KeyVersion;
    readonly changed: KeyVersion;
    readonly detail: Detail;
    /** What changes in the key's row beside its revision. */
    readonly fields?: Partial<Key>;
    readonly writes?: readonly KeyWrite[];
    /** The rows as they stand, where `view` has other fields of the key that change too. */
    readonly before?: KeyView;
  },
): Promise<Plan> {
  const { version: current, changed, detail, fields = {}, writes = [], before = view } = change;
  const versions = view.versions.map((version) => (version === current ? changed : version));
  // The key's revision moves too: its ETag stands for the whole, and two changes cannot cross.
  const key = withStandingHold({ ...view.key, ...fields, revision: view.key.revision + 1 });
  const after = { key, versions };
  return plainPlan({ before, after, used: usedOf(key, changed), detail, changes: true }, [
    { kind: 'update-key', row: await attestKey(mac, key), expected: view.key.revision },
    { kind: 'update-version', row: await attestVersion(mac, changed), expected: current.revision },
    ...writes,
  ]);
}

/** The wanted state was there already. */
export function planNothing(view: KeyView, detail: Detail, version = standing(view)): Plan {
  const used = usedOf(view.key, version);
  return plainPlan({ before: view, after: view, used, detail, changes: false }, []);
}
