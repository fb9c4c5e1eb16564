import { describe, expect, it } from '@jest/globals';

import type { Cosignature } from '../../src/audit/cosignature-ports.ts';
import { cosignedLog } from '../../src/main/cosigned-log.ts';
import { MemoryLog } from '../audit/memory-log.ts';

const line = (name: string): Cosignature => ({ name, keyId: '00000001', line: `— ${name} AAAA\n` });

describe('the log as readers get it', () => {
  it('has the lines of witnesses after its own, each once, of that checkpoint alone', async () => {
    const log = new MemoryLog();
    const of = (size: number) =>
      Promise.resolve(size === 3 ? [line('w'), line('v'), line('w')] : []);
    const cosigned = cosignedLog(log, { of });
    expect(await cosigned.head()).toEqual(await log.head());
    log.grow(3);
    log.note = 'o\n3\nAAAA\n\n— o AAAA\n';
    expect((await cosigned.head()).note).toBe(`${log.note}— w AAAA\n— v AAAA\n`);
    log.grow(1);
    expect((await cosigned.head()).note).toBe(log.note);
  });
});
