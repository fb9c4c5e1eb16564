/** The log as readers get it: what witnesses said of the newest checkpoint stands after its own lines. */
import type { CosignatureStore } from '../audit/cosignature-ports.ts';
import type { LogReader } from '../audit/log-ports.ts';
import { withLines } from './log-outside.ts';

export const cosignedLog = (
  log: LogReader,
  cosignatures: Pick<CosignatureStore, 'of'>,
): LogReader => ({
  ...log,
  head: async () => {
    const head = await log.head();
    const { size, note } = head;
    return note === null ? head : { ...head, note: withLines(note, await cosignatures.of(size)) };
  },
});
