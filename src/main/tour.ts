/**
 * The commands that a development start prints: the README shows them with their output, and the
 * end-to-end test runs exactly these. Nothing secret goes into process arguments: tokens come from a
 * header file, bodies from standard input or files, and `printf` is the shell's own.
 */
interface Step {
  readonly title: string;
  readonly commands: readonly string[];
}

const BYTES = `-H 'Content-Type: application/octet-stream' -H 'Accept: application/octet-stream'`;

const STEPS: readonly Step[] = [
  {
    title: 'a key for wrapping and a key for signing, their classical halves born in the HSM',
    commands: [
      `echo '{"name":"demo","suite":"MLKEM768-P256"}' | curl -sS -w '\\n' -H "@$A" --json @- $U/v1/admin/keys`,
      `echo '{"name":"signer","suite":"MLDSA65-ECDSA-P256-SHA512"}' | curl -sS -w '\\n' -H "@$A" --json @- $U/v1/admin/keys`,
    ],
  },
  {
    title: 'wrap a data key, and unwrap it',
    commands: [
      'umask 077; head -c 32 /dev/urandom > data.key',
      `curl -sS -H "@$A" ${BYTES} --data-binary @data.key -o data.key.wrapped $U/v1/keys/demo/wrap`,
      `curl -sS -H "@$A" ${BYTES} --data-binary @data.key.wrapped -o data.key.again $U/v1/keys/demo/unwrap`,
      'cmp data.key data.key.again && echo same',
    ],
  },
  {
    title: 'sign a file, and verify the signature',
    commands: [
      `curl -sS -H "@$A" ${BYTES} --data-binary @package.json -o package.sig $U/v1/keys/signer/sign`,
      `printf '{"message":"%s","signature":"%s"}' "$(base64 -w0 package.json)" "$(base64 -w0 package.sig)" | curl -sS -w '\\n' -H "@$A" --json @- $U/v1/keys/signer/verify`,
    ],
  },
  {
    title: 'rotate: new wraps use version 2, the old one still opens',
    commands: [
      `echo '{}' | curl -sS -w '\\n' -H "@$A" --json @- $U/v1/admin/keys/demo/rotate`,
      `curl -sS -H "@$A" ${BYTES} --data-binary @data.key.wrapped -o data.key.again $U/v1/keys/demo/unwrap`,
      'cmp data.key data.key.again && echo same',
    ],
  },
  {
    title: 'flip a few bits: 422 decryption_failed, and nothing else is said',
    commands: [
      `cp data.key.wrapped data.key.flipped; printf '\\377\\377\\377\\377' | dd of=data.key.flipped bs=1 seek=1200 conv=notrunc status=none`,
      `curl -sS -w '\\n' -H "@$A" -H 'Content-Type: application/octet-stream' --data-binary @data.key.flipped $U/v1/keys/demo/unwrap`,
    ],
  },
  {
    title: 'an auditor may read the log but unwrap nothing: 403 forbidden',
    commands: [
      'npx twofold token --data "$D" --role auditor --ttl 1h --header > auditor.header',
      `curl -sS -w '\\n' -H @auditor.header ${BYTES} --data-binary @data.key.wrapped $U/v1/keys/demo/unwrap`,
    ],
  },
  {
    title: 'what happened, newest first',
    commands: [`curl -sS -w '\\n' -H @auditor.header "$U/v1/audit/entries?pageSize=3"`],
  },
];

/** A word of the shell's: as it is where that is safe, else in quotes. */
const word = (text: string): string =>
  /^[\w./:@%+,-]+$/u.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** The tour as shell text for one data folder and address. */
export function tour(dataDir: string, url: string): string {
  const steps = STEPS.flatMap(({ title, commands }) => [`# ${title}`, ...commands]);
  return [`D=${word(dataDir)} A=${word(`${dataDir}/admin.header`)} U=${url}`, ...steps]
    .map((line) => `  ${line}`)
    .join('\n');
}
