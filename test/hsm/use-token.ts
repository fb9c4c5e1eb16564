import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/**
 * What an operator's tool does, in a process of its own: C_Login, and C_SetPIN where there is a new one.
 * Gives `ok`, or the return value of what failed.
 */
export async function useTokenAs(
  token: { readonly module: string; readonly softhsmConf: string; readonly tokenLabel: string },
  pin: string,
  next?: string,
): Promise<string> {
  const script = [
    `import { loadAlone } from ${JSON.stringify(join(import.meta.dirname, '../../src/hsm/module.ts'))};`,
    `const c = loadAlone(process.env.MODULE);`,
    `const slot = c.C_GetSlotList(true).find((s) => c.C_GetTokenInfo(s).label.trim() === process.env.LABEL);`,
    `const session = c.C_OpenSession(slot, 6);`,
    `try { c.C_Login(session, 1, process.env.PIN);`,
    `  if (process.env.NEXT) c.C_SetPIN(session, process.env.PIN, process.env.NEXT);`,
    `  process.stdout.write('ok');`,
    `} catch (error) { process.stdout.write(String(error.code)); } finally { c.C_Finalize(); }`,
  ].join('\n');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '-e', script],
    {
      env: {
        SOFTHSM2_CONF: token.softhsmConf,
        MODULE: token.module,
        LABEL: token.tokenLabel,
        PIN: pin,
        ...(next === undefined ? {} : { NEXT: next }),
      },
    },
  );
  return stdout;
}
