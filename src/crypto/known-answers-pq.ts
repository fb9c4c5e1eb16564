/**
 * Post-quantum and composite known answers. Sources: the second vector of each file of
 * draft-irtf-cfrg-concrete-hybrid-kems, taken apart into its halves, the first vector of draft-ietf-hpke-pq
 * with ML-KEM-512, and the `sWithContext` vectors of draft-ietf-lamps-pq-composite-sigs. Public keys
 * stand as their SHA3-256.
 */
import { hexBytes } from './known-answers-classical.ts';
import type { MlDsaParameterSet, MlKemParameterSet } from './engine.ts';

function base64Bytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

export interface MlKemAnswer {
  readonly set: MlKemParameterSet;
  readonly seed: Uint8Array;
  readonly publicKeySha3: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly sharedSecret: Uint8Array;
}

/** One combiner with both halves' secrets given. */
export interface CombinerAnswer {
  readonly suite: string;
  readonly pqSecret: Uint8Array;
  readonly classicalSecret: Uint8Array;
  /** ct_T. */
  readonly ephemeralPublicKey: Uint8Array;
  readonly classicalPublicKey: Uint8Array;
  readonly sharedSecret: Uint8Array;
}

/** A composite signature; its first part is the known answer of the ML-DSA parameter set too. */
export interface CompositeAnswer {
  readonly suite: string;
  readonly set: MlDsaParameterSet;
  readonly seed: Uint8Array;
  readonly publicKeySha3: Uint8Array;
  readonly classicalPublicKey: Uint8Array;
  readonly signature: Uint8Array;
}

export const ML_KEM_ANSWERS: readonly MlKemAnswer[] = [
  {
    set: 'ML-KEM-512',
    seed: hexBytes(
      'fcc790d47249f00165299da5ea7e8fc878913ad9487ea6f437039dd605cb032e4ed9054818b70b38fa1396' +
        '51fa80187a0f390d71af83d0661c76fb182c9fbd0c',
    ),
    publicKeySha3: hexBytes('2d42421029f21c60ec82ccbd06b88466cc106f236947e0b5d27a571aa3d02381'),
    ciphertext: base64Bytes(
      'PutYASevbFJwyTF2yC0O8uNuFo7BubYoJdC7xXxwWhYyp9N3xCreocFcahb0iSk+juutxTQSg5Ef6yjZQkoVWk' +
        'y3oDan97uS/mO51igUPMHDyaWGTacEfw3BJHLvTvp5+WFrTReP1/7ww330LWVF9wck5w2FB3l6cr4URj+OA1Aa' +
        '2VTANvsie7ZNA2HQjh+W5hCyV4v5v9yaiwNeeeoe0PSJGvcgC5m8c+AqMFdlAcpV3/hMBtzvQs9vIr7+A1jMQg' +
        'WEHEADu10CycAN04goHAod5R0sFy2yuHGqh5neCQe6Hoen+87sUVZQYF8Oih7xWH4djNC/6LQ1tF7uZz9yFSC1' +
        'RuBdMaNZUdOGgR1JqjEGX8wrX0ymDUhD2Iu8BG5wj0hwpxu8SLtzT/2kqBD6Kn2nr44XreAl+KtyAk9uBOq32u' +
        'xGy+iLLblQ0FziSiC4+V6ya4gNbuNaaOsgGmfRxpBdHL8HmDWrZzN3soYdPZtNNGBibRDZubDJj68N6WMA3VcL' +
        'wMxZrNV31cD1/siaGONLX08Res5DCU+U2rYX/4WcLgLP64bP3tr5xvztN6l34jMScxovMDL7gs5SRPGGnAJHUg' +
        'c09in+R5kGdVOEm0KSKHPbjQ2frmZGAq7KliWIFKPcBIbLl+lnOBpzZTeqJgT84Gb8AgC/uijsmDOZpeqRrLEF' +
        'SCnKbhdirbFwSZ46Nh6Gj0ScOlru+TWrWU5zP5xDUub7Vlgy47Plg5Aq0NkYHJthUQIaLwSxTMQVvaokhflXdj' +
        'RSo/n+Uktq3Orgu3zfA9iGFXoy7xYnB9yKL3Gwfu3eMe8RKhnPDWETS/35FDyOLgup7ldkHUoGQ8QVCdv31ajJ' +
        'bCwBL87coQDFrZc6Xxsyikt+Hxs/kSa7VycD+ePaU6vfFMSeMt7D/eO/TVnPTjYtCTleN3HspSf5qJRLdFrptp' +
        'Q8+kBOOTQ802FYa64ExxKybnUKJsT6hozaElKs++TSqu83OLhfL4cj8pm9vFuPZUef/dMokxr7zVIv',
    ),
    sharedSecret: hexBytes('6209eeb3c3fdf8aeba0d285bf0098f4b748bd630f78990f138f9cd0e8023a264'),
  },
  {
    set: 'ML-KEM-768',
    seed: hexBytes(
      'dbf77c8d79c80ad6b0763d42a3fe53f0f1dc030220c2e3fedc2aa903abfcad08330db4ba490ccee095988d' +
        '9355e816055cf986e280532d47cc19f2240cc23419',
    ),
    publicKeySha3: hexBytes('098752fbb38102243e6c47358b51074ab65df81519bd3cb1371885279777ada9'),
    ciphertext: base64Bytes(
      'YA7PQCZoOJjQ4znu6p69Q3pKgClSvzK/oya0jrdJRtDN1UN+cN9La3rL957+YN3N6YWs/YwtI3deHsxU627gPc' +
        'ybSqwVAXJzeDGt+vDmOkeCutKnhbnDm/XjRkDqPaRH78KgPiOjN60fVCwywutG97iNC/uofY7+jNRFbm8hvuvP' +
        'PdUCtT1Tc5V1DOlj0onv90YhVF1KXZJivRSz3d1O+IDmXL6PL4qtgm9X9yemCqru6Maeia9sU5/U8mfES+6LU4' +
        'WkYKfI5KgJlZ34bBE27iPnVEz6dSTGwE7Z7Cmu0we139AQjykpSs7rUXoJi4zbrVkRvHXpYli784ogKIxpEbI0' +
        'b4QsCUO/jpw0oKjlGOksh2HG7+ax0+qK7ZssT+rPvzVZ86Xkbk3934GTYYPU0fnIwWFrFNsgV0Na1xZV10P61J' +
        'h6Gegh0Kxmb/Pka3zA6QuF4ZZpYieaSK/i6bvOicgZqLpSR2rwdKBxSVOYvUl/TU80AmAlRSl1z9qj5+GDqWK9' +
        'oAkQgiHssg0hjELjh3QBnS3DJiEni16I+ZtiqedG0WwWkczz5+kYXDxJPnYX9FH2MsFh++bYrDIX8Q7Uv+7kfk' +
        'lg7EpT5IUsoCQVQ4SEIgRKZ1Z6g+CdjnS50RrxfVPElWXKU97afE3wdqPhtjaLGTHYHbk+h/db6mkkoyE3b+c7' +
        'WlsHuAqY3Dq40UcyVA8bS3F24nSpBdRT6sHKr+K/5ObJBFVsqRsBsjAiFas9/mtJ9Glj32Mqnny4Q5zV7lah+O' +
        'LNP6rl2PNGLQ/5MfUDjPpwJZ2WMWPWFj7yKwwyCBv/J2Ppjah4FwSNTOdV5dKxz+fW7qsP2+dmyV8SVTegS8+Z' +
        'Am+b1b47Jrm3YU8TL2dH3W2WAJqFrmy7GhS5IxCZtnsE14SYdbZJLztkgvi9rDBffsKfKO9HOZNManooAPvb/2' +
        '6yI31qCF3fq4UZ2x0rHmOqbLmzsEQniUfcO80ymqQn0TJn+Tps8q7ooqt01CiP4LZ26oVYaDSrV+hj1IBXA+uL' +
        '9ucfuxGjhue2Sg1mHb0F9eKSTxQZvHmaCJ1E3akGbGxQP4yAvo2qmb1IM42utJEazxkygQPJb0Cnf/2CfVIpS6' +
        'Ia0dUvwn6LEq1liHAk9B5j/P5lQVJnasNj8jd8WwtDfgdYl+M92NVyJ/xaU2Yp762ZiieRAxUOfUfkt9EaDWSd' +
        'FGxlYMSMnAxWyBHPpvP2LPcXrlcVl7wpfe7Yh2ctiozsKSnCtVuV8mvV0Q7zDAxKYpXVymAVOPWiCsEGTS9MKg' +
        'eK8bFimgwgOtBHEl653ODRJg7vGc1K2Oxdc6Aboj4mbMbdJmxaga9YzPG1zgRA790f57tCF3Z5teUJX/oNRTvB' +
        'e4khAIUxwtCWo6SkhWM3BGKln+H6/yqBYD8tCcouC+rEQgSk4DqoUnRbF0e7bEJCBq4JPsuReJc=',
    ),
    sharedSecret: hexBytes('84a0974100495223f54268ba20665f8234f205c41805084f47dbccb2b1629b3c'),
  },
  {
    set: 'ML-KEM-1024',
    seed: hexBytes(
      'dbf77c8d79c80ad6b0763d42a3fe53f0f1dc030220c2e3fedc2aa903abfcad08330db4ba490ccee095988d' +
        '9355e816055cf986e280532d47cc19f2240cc23419',
    ),
    publicKeySha3: hexBytes('fc219633ca8cbf8a151cdd74584310a9568718ea9e888307bf1cd4aea91c7689'),
    ciphertext: base64Bytes(
      't+9c8l/OJH7koayKC2v8sx/0Bg7nCCwleJeCkmj1mvp8lz4jPGZu3mdU/jJtAdyHCXlyMqgzoTU9ZRJQQ30h1a' +
        'l812GjNWg4MLHnFnzWrJbIEmFPMs27ZJXIB/khSGBmwnC1YKeUcP8Zi1wQ/V7GO5/LMZnzqkEGiIg1E+R8OtkC' +
        'DuMD3KDCrf2YD72j96vct7HDjZ35Q78Su8LDqi27hW/LnDCuvWTyklqtpaOyXv6xDceiQj1gsndzDV84ALyN3r' +
        'JSxoJLm4BfTeNynwMGo4hU2PmmNTXDz6BHmTel36WaMnPdNXJ22N1NSNI8MuMWlS5Mh3pKctrB6YFfDlicpich' +
        'FlYzQz7zM7hCwJsXjEF7dI2MssWtVu47Pxvd19qLJjoX/nWeJcUMJXaJA5rxIiM7wIKPCms4C8lZrTB3mYcD5T' +
        'CxOySbkffRVHaCy7FCW2CEuv7d8wCWU60f5UfEgohZ/nsGCk6MKZMpGefwbeHFEB+ya7yJmjepI5GD0FhZ7wC8' +
        'mmo4MhKVUcFrx1+3UER/IKOPEgENHRye1GL1k0CPq0Kmzge8irbn3yYmSUMf6F/4DTAnqGLRQNdcnqFvc+uPOA' +
        'UqU1+nKzcLGYAsik11oOWXZsgcYOWCElUi8Vqj8uGH1VzSoOvYmC/1xnG5XMq1SsPMVE9rB8bb9YKTUCwn7CXr' +
        'zZpE4q26JKIg3+X/P6krpQmy9DY/rKoprX+e4nn5oRL1MH/5jLG+eiN/Vql6x0ND5bX2rARna1YPvVrH5jPhsr' +
        'ZNY1hrE8c15wc4VUQgAsDqJ9i/2bXlFHpirJA++hh24aAmq/McOuybAdWMOMjE3FdCusIAujR/PaLlusYrIT/p' +
        'P1AKekNA/59GhRmso2sbvUTJrk7tk9TaochH/cByFFk5/zRzYjJQqrRwcDHCTv7dnhRoD9mgF3Kdjbh6Eyv7zo' +
        '+0pSTC4y1Gm8utcc7Xj7gMHNkjK2DCg28BkzCj9t6rIYMvYPqjRv17JRdokFtTjYg80jsMKnwoPTPggxSOokBk' +
        '47aJ+SLn9cp8pNqbuEEr15CfMeDylj+VjrFDEmKlIvedhsdIRg35InLd3EW+p8yct4w1B5uqcMPKEnIBCbxRTv' +
        's9vztg/tbEmCRTX1DOQXR14O+9dZnZBxy93JR5DuUlHGhf5auvTwXxFBPNpor25DX5ROtprXj/xn7SX9zKfkN4' +
        '6cKCy/tHeckjAnbUh0lqt+Bk7D0qz22qBiYW+iHKua6bHGnePZhvSRJdkxa8OGlaJ+QGhC6TBLWGMTXouTsrZW' +
        '4ikuaZWsgLQE9vtbSv7Ls8LQfEPBw/AxyhvjUvLF1qsCD3o9l/j8TnSgh3+1oBiY7/dVg6xRLyMGe52SNab+kl' +
        'H4WB9ozuqtT9LmSeiHuNb/1qdvefEkCJKMeKjqqHCg4hOhWYpesAnTbrBQCVDWoyRXx9jC4WBddV60iVkyS8DJ' +
        'q7ED8JoJBxiL/pSa/bB57lswyu1ov6kBsxUxt4WEcneD6Vk8IMuTeuahlQOsKHf3Il7gcokXDXcA3M1k9OXMGE' +
        'ZAWzJ9x8rmcxBkoRePuxePxONs4WmsffXZgQgSVuA7WYfeoUbN+N2lYY+n+Vb1w+5+61MLhEB84lHvAS8alCfT' +
        'Z5IzmVhF7AncbJmPtz0SPYfAfKaEU0WK5xMZkq4RUa3qrGRthdHFjumdxIU84TBXM71LkDsfGNIHHxAZVzOLTe' +
        'lPn/J2GIc+zAWjUqHq2NY+SEkRRl95USBC6dkYLmZ6wFUHfePqZqvkxx9jXWsfN/Q64YAc6HZM+5NCsfDxNYto' +
        '8uoKmsk5lruTwbbpd2/J3JU1HECwXVweaVaNk+uFsOoKTPotkAZeyvf0cuRPFOFeBNHLF9oHv6drHrLsvAVCmO' +
        'XdbFvndx4uVqjYIS1fg4HnNXJV4aZpwyAJzhKWIvwZsY+T8G9Ac4QEVxPqWrZOfFXiBAlcV7segHUATp690uY+' +
        'GkvZQTS30dH6COHeBwaCrYiU7fY5V4twgE5Mo+1vTdItVw+kLcNTT7NJhgn19bjncRW80pVlf5xI86qWz/5kEu' +
        'bJafvEkzLCqNjsXW4sNZbYeKNhE=',
    ),
    sharedSecret: hexBytes('e52255864e63d9273f9e8f4b2a0fd03206d798310b63a8a191c8c20b89684e83'),
  },
];

export const COMBINER_ANSWERS: readonly CombinerAnswer[] = [
  {
    suite: 'MLKEM768-P256',
    pqSecret: hexBytes('84a0974100495223f54268ba20665f8234f205c41805084f47dbccb2b1629b3c'),
    classicalSecret: hexBytes('18a109f1aa9a2b99edb86a8613e22768a6125cdfb800027a94b2d84578aa6cd8'),
    ephemeralPublicKey: hexBytes(
      '04203948060efd681edaf7f1ab49d5f631f1122d2e0cb452a2ce5490497b32df225372b80b86e5a710a64e' +
        '8b4d92318414a179479b96827f3379de247163949084',
    ),
    classicalPublicKey: hexBytes(
      '047a93f1833da6f7c4226f8c05392ba90626e4ed81bc9dff573aa243055f08a567e29577ce8dafa08297e6' +
        'b04a779bed852b95ec0ac14e04b1cb58eb656455bad9',
    ),
    sharedSecret: hexBytes('d33a83edb4fb5a7508686ba4ddff001c17ba8890e9e3be067d50c959b512f9be'),
  },
  {
    suite: 'MLKEM768-X25519',
    pqSecret: hexBytes('84a0974100495223f54268ba20665f8234f205c41805084f47dbccb2b1629b3c'),
    classicalSecret: hexBytes('7d02b7f2954b46a01b0c0c92fecb225e68114bdb5abc41fe1c1cb29307895b40'),
    ephemeralPublicKey: hexBytes(
      'fb41b1fcf75c1227fa08876056a5ed07ac44fe0c116ec2de80b8e523959d7824',
    ),
    classicalPublicKey: hexBytes(
      '979aaa76aaed9e76fa61e2a0a9aff50c054b3f819ee2da1cc9134008b9f5ec05',
    ),
    sharedSecret: hexBytes('750300db25bff9620e893c2c6fcab9bf04d7f2e543b5b39420485626fa274908'),
  },
  {
    suite: 'MLKEM1024-P384',
    pqSecret: hexBytes('e52255864e63d9273f9e8f4b2a0fd03206d798310b63a8a191c8c20b89684e83'),
    classicalSecret: hexBytes(
      '9259695900b586982384095d978f57c40a4cc4897c2e65a6fc17384d8223bcb109a8062f56cd3815ab30ca' +
        '5c8ac7018d',
    ),
    ephemeralPublicKey: hexBytes(
      '04025f5f77f84dc9ca38e6037abc429c6f69d3a237ea0e396e4f659e41068f4a08e4fafa287f17bbccc8b3' +
        '57b6e49ed038b5bf39d7b22836f0309969ef69f1898cca11479f4db4ce2eaa3e7987dd35516c0b8f315788' +
        '6e5732cd865f794a2a29ed',
    ),
    classicalPublicKey: hexBytes(
      '04584e2dc615b45facdbf7dbd82ae961faeec8274218f2e9f4a20d6aa9c78a7894b7d83ff770d2a87504d5' +
        'be54954b03ed4236c6d1485236fcbae4af881600bb618ab00c7f20c27a3a2767d729980e3607313e83cdc1' +
        '1aa972d4e74b4c00c2ffb9',
    ),
    sharedSecret: hexBytes('b258b8edf4851b7c1a86cc820743811c52d4bff678e8b94cf6bb5f3714b7dbd6'),
  },
];

/** Message and context that both composite answers sign. */
export const COMPOSITE_MESSAGE: Uint8Array = new TextEncoder().encode(
  'The quick brown fox jumps over the lazy dog.',
);
export const COMPOSITE_CONTEXT: Uint8Array = hexBytes(
  '546865206c65746861726769632c20636f6c6f726c65737320646f67207361742062656e65617468207468' +
    '6520656e657267657469632c2073746174696f6e61727920666f782e',
);

export const COMPOSITE_ANSWERS: readonly CompositeAnswer[] = [
  {
    suite: 'MLDSA65-ECDSA-P256-SHA512',
    set: 'ML-DSA-65',
    seed: hexBytes('6ec75c5aeb0b9b214dba608aafde387bc8be031a465dd760c7d7c7ebd628e3da'),
    publicKeySha3: hexBytes('3637a765c22aa88062afdc45edbe0534371fe59d9e571040e3ef8acfe2b0aeab'),
    classicalPublicKey: hexBytes(
      '0498824439f3da0225096afe049e8e6db7273c7be13cfa1dfb1daefb7dad843ee35aee5bf9e27efa148821' +
        'f220442cb49a665326a465a8b806ab58c6fad546b496',
    ),
    signature: base64Bytes(
      'oHXylglVknUKV5ZzGdY29ZcVAruptT8vnoOzTl7F0ryNbDC8Rxy1i9Sz8HZsmGOQIhaOGAyKv3d4Ju+pqA25n7' +
        'BLARU/NRuChTaM99vDnEAAF0T1VYxxWyGYECrx/YuBV04mPczJ4V5YDEn8V7F3WYdzjAnpxZ3BBmxc6LncnRt0' +
        'p8jUgbSlYtqdzSZw0C6q/73K2fC1wyP8C+ogZhNh2aq/UWD/k/bzFqAmusEw02mbUBE3f0IH2vQaSwUkIUrscu' +
        'x3ai52H+W0Ub93cVKA4pk9inPM/TdoigJ4OLkDgop6Vs7hFR60ANNnhNIZeKYpCFfdXC2JRvanGJ3a2b35oFEj' +
        '6koFui4esJtE8mnRVLgBkKnzAMkcvo5P+qPlvQUgkuyZvImpbxxfxrZV0QXOw0z792ScpbQZ/uWAVGbxejtolS' +
        '3wbArNv7tqK4Db6rOwy4eab5KarT6/IIb8tHYQ5pvb0OU+dOgPJqNO0KXwS/O0Y3ZottjsWg5/Zgg2kXEM6ryi' +
        'EMngG5PEp298Dn+OOwzKrU3QjzcTq9h+NfUwFUo22f+wJu1ZC2RC1KDMxHSjfuqmhd5YFJkxlPocGIVdeMHaQN' +
        '0K6iw+Lbg5Yrffv5yGKMyq0lwt2wCWHz8XKXD7kVNLCXipu0oyD+eL2cjLc+SmkUfb9GNPdc/TwHOPieSruyAy' +
        'bCmCvkIRfyRW3KH+FqerympoUfSyVxaZupgmgeeGH9tltGySypaRV4HI06J2zPZnPjhYHBdpzNauiXUGQ2evX5' +
        'f9fqV+fgSfp98+5/R3B9P6qvWjvdPFJT6gWN8mIMKBe9AeJpjpX22ubWS4wMU/l4GZjnHTct49nwczRttT8oQf' +
        'XmoG8WLT7+W91KiTYPPeplsgT87DFbpw6d8QXRRbE5+mu7826K3cTjTFsHiN7OuConZa5eFwZzGVDWHQS/ao6g' +
        'bFwf1ssV+Kg2XFjGu+XFMe8Loxj+zze6+6qZ06JaiT5L8FtEkS/ZHCmxNNTeXna/NrfkV3goWlPCbZLZhHy9T2' +
        'ZKAhzT1tWmMaUnUePOGUr6x1SMWpjEo6qKx1IkEGNNjetVkQqyX24JD1XA5c78Ou0bqLvBghxIOLiUU23pAs0i' +
        'LULOpby+phDbnG4qnK2MneAhbI01/0yvVWX8UEmwAMM4bVUnHuKXAfcnACrb5t6CXK1IWj4B607eXgJqKhrgTQ' +
        'S0caP98+7sn82etkUUiytmPQxhNLB7iZD+rnbaUpHjYcl42/KoyyXbui8uPvkUKSfPpGwzfcNBM3DIaFhrJGzL' +
        'u6qZS56AizEkLa793/Wv2rV5ZZeB0an9X269MC6QXfAxBFYvNwtUH+S2sEYsYfjhOnUuoczKBOAnv3i1iVyJjB' +
        'sNtBrSaq81GUUdYMcSxoaSR5HS6tCzP91OXfrVZNRTdMOHRL8vzUc+ZOgMMAioKGY2FbqcCnCG13uqv+ERD3Q7' +
        'BSj4rPpqbuiSSEU9ZM2fQAOGuIRqxFKne0+ToG1rcxP9NgnS2UqRrW6L44PxhDuDLSPflSTl3iBg59phqFcYC1' +
        'ZSqe4/m1JClUZVuTIoFNnSMoQAsst97yfc7QU36SBqbhE9sM82HZvuprM6j0LWBgOkb/FO0HuLz3140rFBqM8c' +
        'LfVuVW5ND2hc0H7Eqqjd7njyk8VhyVV1YCBTqDYhF6hUEO0e3PrxEtiRbBFCdeFHTvo8nFy9k2kZHkjwq01gBr' +
        '6ByFi4bDNTsCUkgW507mKV2oubehb/g5LrlcxU4lCstskaru1fn4Jd0lIbXD1UGNKZiRo24/Mcrwvv1Ez18w0+' +
        'GbYSFBNGdBEstAB0M6kcDAT4YF5LOY+r505V7x+S2n4Ay/EreIW6+oOwYLVoxFppxxyqu+Siq+GL/ycnypHO8+' +
        'DCBdwV5/bckDavYC9Q8l+74uEpJ0ZEknB48R1uJiY78UnN20dU9/3hbW0sObai369Vl4I/k/5+y2dda8P3UyUV' +
        'G0oxJ7/hg+X3LpFJSAWrhy/wovgFlfN1dkfQa/v4VovVBupQi546QfwhRoiq3MRKRBt46qirO9I2Zsov4mOQf+' +
        'DfH0k3P3GnlhegeYRyhcHHPjpD39Fsamf4oA3rKd2eo3iXpQT1S8Jdxe0E7TimdBJ/+VHuwCF54zFI7r+WduEu' +
        'Nv2aICEMwzXRYIjY4HCFULwXPHvPiUlJQD1IeZy87Wq8u62K6CFbvpeO7SK0qpbA4W3LugX+DLuD67eybwd+Qc' +
        'v+RJLWySdBxENT3tgKUVeG31AObqQkBHXl7WqQ8jKTZl5lYtijIZMbYzDWjojlT2v2GHQHJWGvgprugaCNCzhs' +
        'qDiKZKRuYY5WsFoUOqWPYh72xQENRauwQ5mHy6/kiICefAdcQMxuV0gfAG744ll6M3Hl9ODeB6YAgBFPf8xuDc' +
        'tN8LrB2fxpJnk+nNwIVEpfe6vmIUYzT6RbgNbrqG7wzfxj582dfdxFgWZs2nNV4HcEMVAGA8H/FHbFm22Qtk33' +
        'Pa9e6FyORK8XAdgWx7bb7AkVwsDq5IUCvJra4Wy0Xxw3eZIBV5t1DBNTsQOaePS7AutMxFnsUuc625jBBNVlup' +
        'SibOpUbDLfDgfMb8bzRXP3537cJCZDe8bzY/nwzDFlODAuNkYbQ7C8Qace7A7atn+5/3CokBqmaqnikoso3J+f' +
        'Ld3tcx928y7ru59IHg8LMRdTNwjsT3Ui9nzlhdGP4HKlY89ipogUl2ELKtm7x5UmV3vFU7WtzdyMeqOf+n6Olu' +
        'Q4v0OS1Q8ljGdO8BibGsUpVpGR7riMctIpbtlaWqtitD7LzinwngZeihyzF1mIJQmsRngfvnkNeg4xAmwlqIpL' +
        'JeF17TJd2q8kt3QCWhG3jsSpW+Pcm7o7/SRvQ1t6XL5oH9MqWag0td4vzdzL4aZ83L70OyU/K9EtyKdldRsHwv' +
        'g72u8PdnR7JjpkUnyD/avU5JOUslCGB3bMYMLgW77kxM1GnR8oDGmm+9qEABC64IkPDISziKK69IfSWByweFlj' +
        'YZ4kAHZEp6sL0saW9rNv4egIeUUT1nvgTQ2r7p2pgyGXSdK//FqCaLPVZjdDEcXyvp1hBiZT8UeuhU2keQNMon' +
        'wGRma/ctYflwHepAyk+E+E1/+p4tp9N3jRl1/n/+4+qoBfCP9LUiwAYD+/7/ZsdbcaUQqCyHpUxIShXqJScly5' +
        '3dtAhagAXWgA9/mPuulyyqIyuF7cMcZ4J15lXhOVv6WIPecDsMBssCvBepCakTh09H8fFp1tA+5NjzGgCY1ChQ' +
        'T54duj/pmNyG5Ejdn+kBVK5QNFQ++f4NUFKnelucXbWhXY5vbmLgMRu4J6a6njpM54mpklHrEy63r0C0hcs8fc' +
        'U2jXMh83su6cQHVOIUue2Pst8Jz+CVtrlyfZS8r5mUSZaEzWv3jeIgrYVZ/RJL1LCsVQvFAMThUlsa+PEe+ulZ' +
        'sE5OCznLSsHpegFBDlki2/3SgMMc4ml1pRiwT3jAuRD/9eo3EDISWCwM114SGN+G0XuEegYhaGfG0jTzJKejUi' +
        'KiNyo71G+CTnnN+maIxwD4orgy/v0vbIODxhnsU9bYD5+6AtopKSv2G1qpCpakAO9mu6BSoJ7nJFU+cpQeIWPN' +
        'Hw1zFQE1f+0AYXc14naYfGl5UemklLKYpIVe6m015YzBFU2xP8OKNNNLRiFl3wV0WQ4raCvK23W98AEyy/9sLb' +
        't7aA+gKKz4+kqEdzktNulil2h0Dy33K/Tu4wAS/hAouRoe5JfJeyvz6jvG/lUyvOo+2N6iWEulnrFga64QQBAr' +
        'G3Kq51ZmLcX+kcB4Cmm6O1nM/U1Ktll5e74H24Yv6ol+cf11fq9HD0nzilRoDLlWXzZR3PxbGdQChPzNw8EbO2' +
        'KacZ2AJS76TOpFUOa/i/h5eRiwqg7SF4aO5pUZ5Tlr1ZSCTkvaKGWzG6ocZqSgeS/I0fFygDv15lYd+LhnNDH/' +
        'QUDAgoC5EuKWDRLtRsyGk1YfQUhzUTGAk1mxL47TgeCx4wH7mADWTILpZ6AU1Uo75ILBeT8wq5FQxuOqPyyptI' +
        'RwhgVgnYjOPBO8NXXAaYnw6vMVoezjppdsaGtsixFtv4F34f7366tGwupdzTTWczsVkO5GOOULxnnv2/XWIDVE' +
        'NTw6mVLu1Du3dAxhbh4ceUt55PI1febwcAvQ/U8THoVPmFOSasPYniUbKjmD6h8abBvLyQfPVy/yM4OH5kb+17' +
        'Y3KiIUQlwLsyHbHPVpnz+wKPETWUWIo9pDR6kJldZGbuRyb52YxaN7zO92QOC4/ABAwLW1TmjoAjdlTfTbe1DR' +
        'J2D46KZNzunld1U0y6TOGUX3Nk31ztQpMU2As7wLFCZydJyxx8nSMU+xv8QWZKe2xPIqSpOy4wAAAAAAAAAAAA' +
        'AAAAAAAAAAAAAAAAAABg8QFRsgMEYCIQCKd41AR0Z5FXRGKEZfSOHK9xQ049tQDyANKa8R3FLTugIhAMCtBmz6' +
        'z38ZZfLNEuXI6m3Ul6X8l+mK8L+Aowzbxl/n',
    ),
  },
  {
    suite: 'MLDSA87-ECDSA-P384-SHA512',
    set: 'ML-DSA-87',
    seed: hexBytes('c820546550a403a52225825d612f205ec4501276cf1996efbd541679613d5283'),
    publicKeySha3: hexBytes('2762d22a8098fafa66378f60162d2e874ab7d69599203c26025a8ccecea6500f'),
    classicalPublicKey: hexBytes(
      '04f2cf94fb86cf326b32ba08096b20e49c4224e5407a6a3eedc326c4a1caf80a830b183aa86fa6fa0a4351' +
        '210a470ea013950d89061ef6b235e21320ac266dd348a4131f80cce502f756c3fea40b7b4da118544fa985' +
        '09793fd3f14e40adc6a9eb',
    ),
    signature: base64Bytes(
      'imPui7FJsM9p7AiJTlb9ep5FlXQXFAIgl6eRkhbCKTfFsE+95IizMDuJvYbzoKMaHpqgFUQNeVit9npSjmS7Ex' +
        'rqSFvaCMp1V8WmUZBJ9KxR9OV5C63fU8Dl6ttVXtTqxIY1izi8xfNu7W/856ajAo+PUbGKxbXbs2SoD1N6SDlp' +
        'myOziZIn7Yidzin+MbVjGNQj0Z54BJgswxmixdZEVzJnfE49ECfptTUvq5EWvGMYoiOtWOhqhjBNyjP6qelf7Z' +
        '63x6q509QuupSyaMIckorLcf+2He1ccsUcgWZPiwae4S14y4fjrnmecGmEncIopDrHoYNhuCVgRBlkp5rqe6pW' +
        'xmRfBdgc6ehG+zvTVUuevY+8v6hmEFeelhKEQjXlOB1/jeszPTOLvSiTPLyinEw4jH7gPCaVWB92ilqgX6neTc' +
        'JUaN9VvinpxlAgA4d5pkEOdSbpgz9Kvi6osAddVxr+jjeEtbmDOEPiJSURIo8V54gSjTuJqLCBtq/u9zSeBqvF' +
        '9tJ6y3J4EJasFIO3lg3XCimHI7C28GVZLF70PPt5GQNO/ImiUjtSc3nxTwyaHCg10gD3x2XvsOPUsqJFB9LA7B' +
        'S9wTh849W9SKWq8U3MzoDibLJ+TANjJ/lHn7r/QjOe6a2E5yi6yn47GjwjUaWPSeq4HVmFjxJbcIyXNVQYz/hc' +
        'Z81geLJlcS4iP+sSO8qRWpBVhEMUxPK0WaDoGQG+T7nvcSa4IjVyL3at/RtiCljqA+uFJVCLHbibnT7vXwvQQB' +
        '5P8e0u4Ik6HY2qcXl5MK0xJy9U13NA/3UV1bJlp9ArVp7tWVq0Us0h0AVHDDArrdCGpHa0AmNPXqMHyKJ5MzPY' +
        'f7KhlL22JbmOo4q1yGV7r9dAxs3Qr51B3I8pv2RaMeSg+90UTfMnG1YA2mePcleruJs4NRDlU6yK3IEyjq0I22' +
        '6M/bqsS3brj6i95KM3MfLtBxzLzh/KEE3lMNrsStKPcPoIyaaGK8nbTYDnWx7LKbnnqYJ8NIidwxUlUC9yFWjl' +
        'JMnHIdJOt8HFcGclOxUy2oJ57S5cE9Za657YZx2Wd7abhuzWukzFmBn907W5HeDRIKdYuwfSwr12t7BeA3srVF' +
        'rEV1BF6EsjgunHx+CJk5KpIOzeMziTjsZtdUXmIpkgxYkjiJrSFia5aS/TXfkCXhvR73TpWt8XFYNDYS2gmo+R' +
        'T5szxeZwWZDskVX8VyFoDmd34XuIvuMS+NoakfwSMTtWTtrPAZjhB1ZwLJP0kaHvMhef9CF9r1YS7pg+NtmLxY' +
        'SB/nbSoYdMTb6ir+B2Bq3n2qPe7ZeVr65Xxe1O+HK8MEq/BNdD246r6r41FLXc3eWI1Mu31etFUCKi4nmbwmrq' +
        'mi7V1+9NKg3+U0KlwIlGHbGLlHcztIVsac44R4mp+/q3RmGvkM67RTCfdM607vRkF9jlNu3gTO5KsqFjxKyr1L' +
        'o+9m64pgObZulgcMdjL8zKT8C9nCpNVJChNB5B24p41sRaXa9Jwcd9v+UDrjspHYR/D/n2stTMqr7HP77aK1cO' +
        '6bGvEOpPvuZKXVHzLjV38Ggs2KxCht2gJyyBvYmnWBtGpZWgEW7qe67okPBuNiMvf0P3PEBTWii276clP44ssU' +
        '6UvYUCSHHRdeieiVvOD0vA1XzveVVSsxZ8jMUV+c6NZ14JKDszgq4R7Gcg0hctHJykKU7qckC1uN2hCfCqHRIK' +
        'CNBhXvtI+xRop2KHi4Wwnrkv6HuuRjJbLirlzHgs/MUSxytToKEHMV3p5jsKYVpY2JzXF69uqLiqGlqj2vFTvu' +
        'VxHpG5jwTPh6BImwHhjDN6gU2zGwTlrRMnHTQFaHde1CAWxYYM0my0rcDqEjktewrw2ZebADY76I5YLvPWePQ3' +
        '7AzIi8zzzMyJ7LaiDuCzC0OjmJH5Djbv/Obzlv9OnE23klqmLo38ptIZgHdxxNe9wTyE6Vp/Br8hIbsbbZMSvD' +
        'Zk8vXMqDipVi/Ob4RiSRAfep8WDwxzsw28Qj/RKT3cGVgSmv4ByNlD2yMDu3G1ArRszHG3kRUfaWlFuvatMY8J' +
        'JiClV9Ailc+tvZZjVncobwHppccoBgPU1qpGrw4hqJzS7jTRZ/QHPOSjcSxoON9mpJkrHE8jEI1ZvOTbvhMF3N' +
        '6pNfAPYQ3xj1gUDLtQJGgBY/lkNhcdrmFDcDei2LkvoYCfoRjiaqMkGuhimlcHzaEkdiT825sr5EeoBdLHZ+/V' +
        'xGSiXL0Oge3w0YnaE8DXBc1n53/wnTLNMVgA2w1Vu12ERRNEnIEnnObt9yMlZjwnJUk2V3zv6aBoN8iVHrYKrv' +
        '7au5WY//ZEio5a7Wckho+Pqk0Locwi+7BpT15VANWoXWI5lEOO+7O5blpKQ6ejHhRoLDye92h4Wibf7UNJQhb7' +
        'S4tSrCfQ2JDM2piCMBUq4AkJuNt1/t7yQMa6Hx1iTkTDQX7+I/ZRerraLElBhrh53uMAUi3z1ww2nD/Z23oOTI' +
        'ck5QeZKtnH2BGFvSWtYOCzip/i1vSIZ/qK/r6ZF4JsBt5N48VCOK0iIs663//Q/yTBok3N7W2Sy6AKtEhKsk2h' +
        'kCIhHkdKLSF+RcLj7PAURNIiMefloU0HkU8Q5swax3V+5/d9wSy0K6n7HH/OlewwNJ2Nwf0Gt3lc7cMTBD70bv' +
        'V7PNo7LnBhSc0H1V3LTUqq4Yz7ryzWOSE2EbXeP6nga7DTc8YKAwhRKT115h64tbT7uWh8eV1B9jxAhJGDrl23' +
        'dIG2qbh1mTk98vpwmZAMXzp9jlQItFP98mtFBRsimY4aSYJDyhBcLMntfAFgPjVdv10jIt4fc9Y/cdM5Y4jahq' +
        'VqJCr3GFiCUdtSrU++X/qpDIsyoJ4YGJwsy99G7CYm84mQklpzD9drNNPEHFVwmKMBYY+/qGU1GK9cPcEHi9ta' +
        'cxwBNQNKK1VXuN/Gz5Vy3gc+0PVYR9Zj8KSJfiw96zVUccaF1aPPVlxIZMhtNVrfRu1gcAMgdyqcdSCq/k0Wv+' +
        'Jbr+O66xwQHLdeZAxnK42ccJh6fPGZ9jw6RuMGpjO3835WgYjSc/VsMAu0Z11kRjczMUEf754IqUZREhczdh8d' +
        '5I+BIhA9J2bamFNoLwpPf3/9BMDlfTErWiwXZ/Yt2hV3T4SQ5mPTK5ljAyQ1UpnvrSS0eEweiGdXZJde5+cpdC' +
        'c4aAbbKP9/bF3Uoyz4F7gLcBPAJUPsj0TUuA/1B7ZQf1ct+f/FLPd67i8B35A0ZxgjkLZIEwqDB4bx7eXPEor9' +
        'Kcqe1Z9+txeLOoqhorsm1ukKfwjNBNhtGiTyxYtMkLLAjuSo+3Mw9Q4XGFbnm+cOM2n9O5+goQ9Ap+v4z4WfYu' +
        '6ggPE7zDlvdF/Os20eZXVrYijxVIQ4psgy1V84tEKSrwHpuQowPGSXCaxFZMxbis1cqplj+wCjLFF2kgDkTdtU' +
        '+6vadLeiS1mIfywRCf9C7s1C9ATXQEbH6BLzT9cuMaVH5uzYYaKQ9MOx/XScY3b1R9WZxZHZPdiaLR4fTx4nzK' +
        'RiKMbN70qQMd9BQyWrB/6ZN4TYpDJfxPK+bSHNFdVZEUqlgtiOYx936ahhvlPus5DBX1lZSaDqFqiRu9H8/3Og' +
        'HV0pcxLKJ8Jy7/LBVyZ1SkyrmodeQx/x/BmRBs09QOewJ17QN8Vw1J44xJJtfisLsey7L27Ah/wKwLesc2Y+Lb' +
        '97QTD3e6P5w31irIF/GAQNHMCBEMs9XP1tyhPnOne8QIcXSxKPRKyaXo1gbTPG+fTtXDii/ahQiR+EZANBKtvH' +
        'ZDpWZG4skuhMhvW4hZ+oheDhxVZDknrEg8e7x1sf3ptVygfJc39qa8UK28z955wxhThbOcGgn7W8MIpMtB082W' +
        'B9QjO2e2Pbx3l4eyLKpfBgMxmEMhnE5/x1hP0Jrbu3WRDYx8WrElUuO6G77VwH3RQEVfLJ5Uz3mnPFCwlyzDJv' +
        '/mJ/m9xJ+XgYpZWJJqodyOFW+lkZG+B6QzWjMsV1BRmUdl5OepyHmqU9Lf59cGvoyaBj+pwUioCA7dlS+raaGZ' +
        '9P7JZQ99sL7Zsa2jknlw2gxiCu9yg+2jdRmTw05jkczXhSIxp9y1jZDNEDQIPbeGKsHIWlGdPUKKU2h4+78XUs' +
        'Xw8225+j0rSobX9AbFmuuEgjFMy72coTN2sgyDnRPsvgPWRveMBQQvdX9npNoagDGpHrJZ502ihdvrNgozkiMZ' +
        'CvpnPf03O8ceeFvdldvVutUHsoPkV0lFTcFODu2wD0SvpBWFM+JshQW8E1xdnDh/QUYH/EG7qqvwo+X22y08lv' +
        'OCRg+znf2GWIBLGF/5AE1hiCk+iA4gVThZtEtXO6WLetuU0nSXq8iMFACWkLw/GmUsKPxdH9l+ctRUm9MSc0+Z' +
        'QEQgpz7N71X3HUIczNpIaivTWc41hlYbiAAVyTVwcjB+t3YL6Iys2+rFVajDrjI2VpsQnLdd8mLpbsAWOT2Ut7' +
        '70zsn9E53FCHB48qSy8fMpd2zOCWSCJ74ifjvSEHWzQIuMXVJu0gVhtN3b5WyuhktP+TPUsESP8WMsAQoYH4J7' +
        'fW/dvSYwQR4o9ylphuEC3XihjALSviHudRKnTOiauAnuEvuip45hDu3XCjo56rWlxjSvBHv8wYdYO72APQv3p5' +
        'IP/y+KJQ6Vc63hO3cS8ojs0BiLS9HaHqgar+4mNdZs0c1RQMFJG9SXZUS4U+vM03azDsbpUWlqGQCJF4KVRBdY' +
        'X4pEwF3uVCNIojUCC8hl8r7egA3iUKxLWvbB6h8GZHebAniC5szRb0pte3dLZehQF3m+wSZfVYWB+DDSaGNsPO' +
        'cC/zIFVDvUdZEshHa9kLOO5U/FQUTfpYejiBqbMcZQhOnchhygUHcPj90RNjwAMcmSIs4kj2Fvmeg6UW+/Y1Jz' +
        '30lWvrSM09P9L+Qxd58wM2CpT+3mHFkDmsVvcEabLhy6OUb9SQ5a2rvgZnB0HRO+iPlH5eEatIUF/j8YB3kjJJ' +
        'nopKXN0VlgzxX1SOn6i1HE0L5eGgpzkQ5zHHkLYPOeC+bLtw+wuRq+oV6zduZsDy6l1G1VuDhVvGdd07qxn7PA' +
        'KHcp88+BI3jCrWS1AOW915NF0sWpnuqz0UHvOcbFpgqTNCP5fDvkhmaysA6t4ek6/8cl+ZrJCPbNfjUSSm5k2A' +
        'lIIw/Bb/VrmBVXEImFG/hX3rS3F10qadYMDfCCaF7i37oTAy2yMshraDfSbbM9X63c19OQ4L07jp8PEglZxE7P' +
        '6ksM1uGTd9h7Xnxw2H76KJIxOcilxSVuE7gAVoe+CAQin07khHzWBB5dk6g1FnC61WCBfe7DRV2jUF1kw8mxlv' +
        'ikdxXIrNGNDGUQY9Q1+cXsPhLvJi3QmYMATbx6dJKGJPZ1zhQkw3leN4B/ihMtqsEAvot3dfXZQicrNttjEtlf' +
        'lyi3wSdcyMmPT/xO/pfPepk+zmjzNLj1r9B8fkDr/qtGlem8xsvqBD8OGQWIOgVZQFbPsNma4DSDnrMw2aWdrA' +
        'MzrxyMe5h+RzQ9hDbNek6uj4NW/KNVOXoahXnnj6mi7+HEyWaH9jFmwEjt77uJKwud4XlN0Cb+kqImzXIDjV5h' +
        '8gNAJYxks2v0MZXcF4YNt0cPIEaQDFlCINR/e2qzlgsVH54H72HOd+hoGDovPEc3CLtDYL8qQyAGddVJGHx0HJ' +
        'qV2IVtaqFhLGS1ihUjffuWu6RT6C5RGr79T/6cAQHnUbvGNWlxwVhp0Uvoi9y2TihQGJFDlHiJdDx8uOuJ/Bkj' +
        'Eei0MiyBavdSPHrrOtigOtKL9YCspTvoh/tAgUspGnKtLO2HPtX9SZ2nx19JergD8/NkwAArxVx2ARKl81KhrT' +
        'vs8nLFgT9iksZaMXJKcTmpCJA94BATkWap/dqh35k015nehaA5neff7fyEfeDB1y3JaUaOsOgC3tTz1b5RA//R' +
        'XzHnzXyj49jpFV4uQJBSXLhqYw5Mi7x6yXJOZJS2Ysa8mOv1AUW0jCmAWVNP1k3MUFVajeRJwA1SU6BPScXAFb' +
        'TGkvpF/4Ps2jdHZqcWVPmWBG07PeGHHPSAqqBSQWGT5ZveQLDDM9tsPuceXp7glXZXem293rBw4dZXyYnrTDRY' +
        'irsLHV2CsyRlBvgLggM0tOvesAAAAAAAAAAAAAAAAAAAAAAAAAAAAGDREZIikwNjBlAjBGYG/9XVGXuzlXly5L' +
        'QK8hfAr4JbQcSqNag6o6mkBSrGKBccs22uZGXbf2qpNKDPQCMQDre7UbWxFpo52q2zN8xeQcEUoHbPO2D6wWt5' +
        'q68jw2TI1/Bs1Y0aCzQu14D7vey2I=',
    ),
  },
];
