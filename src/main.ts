/**
 * The entry of the `twofold` command, and with `main/` the only composition root: here ports meet
 * their implementations.
 *
 *     twofold serve [--dev] [--port N] [--workers N] …       run the service
 *     twofold token --role ROLE [--ttl 1h] [--header]        a token of the development issuer
 *     twofold bootstrap --pin-file FILE --reason TEXT         a token that writes the first issuer and policies
 *     twofold break-glass --pin-file FILE --reason TEXT …     a token for when the policies permit nobody
 *     twofold config check                                   check the configuration and print it
 *     twofold doctor secrets [--log FILE]                    look for secrets where none may be
 *     twofold doctor database                                whether what is acknowledged is on a standby too
 *     twofold conformance --module FILE …                    what a PKCS#11 module can do
 *     twofold migrate                                        bring the database to this version's schema
 *     twofold hsm init --so-pin-file FILE                    both of the next: the first token of an installation
 *     twofold hsm make-root --so-pin-file FILE               make the root on a configured token
 *     twofold hsm generations                                the generations of the root, and what is under each
 *     twofold hsm generation add --so-pin-file FILE          place another generation, for a rotation of the root
 *     twofold hsm generation retire N                        destroy one that nothing is under any more
 *     twofold hsm init-token --so-pin-file FILE              initialise a token of SoftHSM, and of nothing else
 *     twofold hsm escrow --recovery FILE --so-pin-file FILE  wrap the root for the recovery key, so that backups can carry it
 *     twofold hsm join offer | answer | accept               the root onto the token of a zone that joins, by files
 *     twofold hsm join request | approve | complete …         the same by the database, where both sides reach it
 *     twofold hsm check                                      as `conformance`
 *     twofold hsm verify                                     whether every generation is on the token, and opens
 *     twofold import FILE --name NAME --suite SUITE           a private key of elsewhere becomes a key of the service
 *     twofold export recipient | open                        the recipient's side of a key that leaves
 *     twofold recovery create | check                        the recovery key of backups, and its shares
 *     twofold backup create | list | verify | restore        backups of the whole installation
 *     twofold audit export --out FOLDER …                     the audit log and its proofs, to be verified anywhere
 *     twofold audit verify FOLDER --trust FILE …             whether an export of the audit log is what was logged
 *     twofold audit archive FOLDER --trust FILE --before …    removes the rows that an export has
 *     twofold audit forget-sink NAME                          removes how far a sink is that is gone for good
 *     twofold audit prove ID --trust FILE …                   that an entry is in the log
 *     twofold audit tail [--follow] …                         entries as JSON lines
 *     twofold kms-plugin serve --socket PATH …                the Kubernetes provider on a control-plane node
 *     twofold compile [--uid N]                              keep what is loaded compiled, for smaller and quicker starts
 *     twofold version
 */
import { assertHardened } from './launch-guard.ts';
import {
  checkConfig,
  launchVariables,
  loadConfig,
  presentConfig,
  problemLine,
  takeConfigFlags,
} from './config.ts';
import type { Config, ConfigSources } from './config.ts';
import { configurationHash } from './config/fingerprint.ts';
import { TwofoldError } from './errors.ts';
import { Output } from './cli/output.ts';
import { complaintLines } from './main/complaint.ts';
import { VERSION } from './main/version.ts';

// A closed terminal or pipe is no reason to cut a stop short: what nobody reads is dropped.
process.stderr.on('error', () => undefined);
const output = new Output(process.stdout);

const print = (line: string) => {
  output.print(line);
};
const complain = (line: string) => void process.stderr.write(`${line}\n`);

/** What a command needs is loaded when it is asked for: a service needs no client, and a client no service. */
const load = {
  auditSink: () => import('./main/audit-sink-command.ts'),
  auditArchive: () => import('./main/audit-archive-command.ts'),
  audit: () => import('./main/audit-command.ts'),
  backup: () => import('./main/backup-command.ts'),
  compile: () => import('./main/compile-command.ts'),
  conformance: () => import('./main/conformance-command.ts'),
  doctorDatabase: () => import('./main/doctor-database.ts'),
  doctor: () => import('./main/doctor-command.ts'),
  escrow: () => import('./main/escrow-command.ts'),
  export: () => import('./main/export-command.ts'),
  generation: () => import('./main/generation-command.ts'),
  hsm: () => import('./main/hsm-command.ts'),
  import: () => import('./main/import-command.ts'),
  join: () => import('./main/join-command.ts'),
  kmsPlugin: () => import('./main/kms-plugin-command.ts'),
  localToken: () => import('./main/local-token-command.ts'),
  migrate: () => import('./main/migrate-command.ts'),
  recovery: () => import('./main/recovery-command.ts'),
  serve: () => import('./main/serve-command.ts'),
  token: () => import('./main/token-command.ts'),
  verify: () => import('./main/verify-command.ts'),
  worker: () => import('./main/workers/worker-command.ts'),
} as const;

const USAGE = `usage: twofold serve | token | bootstrap | break-glass | config check | doctor secrets | doctor database | conformance | migrate | hsm init | hsm make-root | hsm init-token | hsm generations | hsm generation add | hsm generation retire N | hsm escrow | hsm join offer | hsm join answer | hsm join accept | hsm join request | hsm join approve | hsm join complete | hsm join list | hsm join withdraw | hsm check | hsm verify | import | export recipient | export open | recovery create | recovery check | backup create | backup list | backup verify | backup restore | audit archive | audit export | audit forget-sink | audit verify | audit keys | audit prove | audit tail | kms-plugin | compile | version
Settings are flags, TWOFOLD_* variables or a file; see deploy/configuration.md.`;

function configCommand(flags: ReadonlyMap<string, string>, argv: readonly string[]): number {
  if (argv.length !== 1 || argv[0] !== 'check') {
    throw new TwofoldError('invalid_value', 'The command is: twofold config check');
  }
  const check = checkConfig({ flags });
  if (check.ok) {
    print(JSON.stringify(presentConfig(check.config), null, 2));
    // As `system.start` has it in the audit log.
    complain(`hash of the configuration: ${configurationHash(check.config)}`);
    return 0;
  }
  for (const problem of check.problems) complain(problemLine(problem));
  return 1;
}

/** Commands beside a development service find it without `--dev`. */
function localConfig(sources: ConfigSources & { flags: ReadonlyMap<string, string> }): Config {
  const check = checkConfig(sources);
  if (check.ok || sources.flags.has('mode')) return loadConfig(sources);
  const development = checkConfig({
    ...sources,
    flags: new Map([...sources.flags, ['mode', 'dev']]),
  });
  return development.ok ? development.config : loadConfig(sources);
}

/** Commands that unseal, log in or sign hold secrets in this process, as the service does. */
const HARDENED: readonly string[] = [
  'serve',
  'worker',
  'doctor',
  'hsm',
  'migrate',
  'token',
  'bootstrap',
  'break-glass',
  'kms-plugin',
  'import',
  'export',
  'recovery',
  'backup',
];

async function run(argv: readonly string[]): Promise<number> {
  const [command = '', ...others] = argv;
  if (HARDENED.includes(command)) assertHardened(process.execArgv, launchVariables());
  const { flags, rest } = takeConfigFlags(others);
  switch (command) {
    case 'serve':
      return (await load.serve()).serveCommand(
        loadConfig({ flags }),
        { argv: others, rest },
        { print, complain },
      );
    case 'worker':
      return (await load.worker()).workerCommand(loadConfig({ flags }), rest);
    case 'token':
      await (await load.token()).tokenCommand(localConfig({ flags }), rest, print);
      return 0;
    case 'bootstrap':
    case 'break-glass': {
      const local = localConfig({ flags, uses: ['database', 'hsm'] });
      await (await load.localToken()).localTokenCommand(local, command, rest, print);
      return 0;
    }
    case 'config':
      return configCommand(flags, rest);
    case 'doctor':
      if (rest[0] === 'database') {
        const local = localConfig({ flags, uses: ['database'] });
        return (await load.doctorDatabase()).doctorDatabaseCommand(local, rest.slice(1), print);
      }
      return (await load.doctor()).doctorCommand(
        localConfig({ flags, uses: ['database', 'owner', 'hsm'] }),
        rest,
        print,
      );
    case 'conformance':
      return (await load.conformance()).conformanceCommand(others, print);
    case 'export':
      return (await load.export()).exportCommand(others, { print, complain });
    case 'import':
      return (await load.import()).importCommand(others, { print, complain });
    case 'recovery':
      return (await load.recovery()).recoveryCommand(others, print, complain);
    case 'backup': {
      const done = await (await load.backup()).offlineBackupCommand(others, print);
      if (done !== null) return done;
      const local = localConfig({ flags, uses: ['database', 'owner', 'hsm'] });
      return (await load.backup()).backupCommand(local, rest, { print, complain });
    }
    case 'hsm':
      if (rest[0] === 'generation' || rest[0] === 'generations') {
        await (
          await load.generation()
        ).generationCommand(localConfig({ flags, uses: ['database', 'hsm'] }), rest, print);
        return 0;
      }
      if (rest[0] === 'escrow') {
        const local = localConfig({ flags, uses: ['database', 'hsm'] });
        await (await load.escrow()).escrowCommand(local, rest.slice(1), print);
        return 0;
      }
      if (rest[0] === 'check')
        return (await load.conformance()).conformanceCommand(others.slice(1), print);
      if (rest[0] === 'join') {
        // An offer needs the token alone.
        const uses = rest[1] === 'offer' ? (['hsm'] as const) : (['database', 'hsm'] as const);
        await (await load.join()).joinCommand(localConfig({ flags, uses }), rest.slice(1), print);
        return 0;
      }
      if (rest[0] === 'verify') {
        const local = localConfig({ flags, uses: ['database', 'hsm'] });
        return (await load.verify()).verifyCommand(local, rest.slice(1), print);
      }
      return (await load.hsm()).hsmCommand(loadConfig({ flags, uses: ['hsm'] }), rest, print);
    case 'migrate':
      return (await load.migrate()).migrateCommand(
        loadConfig({ flags, uses: ['owner'] }),
        rest,
        print,
      );
    case 'audit':
      if (rest[0] === 'forget-sink') {
        assertHardened(process.execArgv, launchVariables());
        const local = localConfig({ flags, uses: ['database', 'owner', 'hsm'] });
        return (await load.auditSink()).forgetSinkCommand(local, rest.slice(1), print);
      }
      if (rest[0] !== 'archive') {
        const write = (text: string) => output.write(text);
        return (await load.audit()).auditCommand(others, { print, complain, write });
      }
      // It connects as the owner of the tables, and logs in to the token.
      assertHardened(process.execArgv, launchVariables());
      return (await load.auditArchive()).auditArchiveCommand(
        localConfig({ flags, uses: ['database', 'owner', 'hsm'] }),
        rest.slice(1),
        {
          print,
          complain,
        },
      );
    case 'kms-plugin':
      return (await load.kmsPlugin()).kmsPluginCommand(others, { print, complain });
    case 'compile':
      return (await load.compile()).compileCommand(Object.values(load), others, print);
    case 'version':
      print(VERSION);
      return 0;
    default:
      complain(USAGE);
      return 2;
  }
}

/** These go on, and stop in order, when nobody reads what they say. */
const goesOn = ([command = '', first = '']: readonly string[]): boolean =>
  command === 'serve' ||
  command === 'worker' ||
  (command === 'kms-plugin' && (first === 'serve' || first.startsWith('--')));

/** What a failure is: of `doctor secrets` 1 says that something was found. */
const failureOf = ([command, ...others]: readonly string[]): number =>
  command === 'doctor' && others.includes('secrets') ? 2 : 1;

async function exitCodeOf(argv: readonly string[]): Promise<number> {
  try {
    return await run(argv);
  } catch (error) {
    if (output.isLoss(error)) return 0;
    for (const line of complaintLines(error)) complain(line);
    return failureOf(argv);
  }
}

const argv = process.argv.slice(2);
const code = await exitCodeOf(argv);
process.exitCode = goesOn(argv)
  ? code
  : await output.exitCode(code, (line) => {
      complain(`twofold: ${line}`);
    });
