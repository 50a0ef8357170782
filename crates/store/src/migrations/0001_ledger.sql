-- Households: every other table refers to one of them by its number.
CREATE TABLE household (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The newest signed checkpoint of each household's tree.
CREATE TABLE ledger_head (
    household  INTEGER PRIMARY KEY REFERENCES household (id),
    size       INTEGER NOT NULL,
    checkpoint TEXT NOT NULL
) STRICT;

-- The leaves, as text: what is listed is read from the leaf itself, so that no column can say otherwise.
CREATE TABLE ledger_leaf (
    household INTEGER NOT NULL REFERENCES household (id),
    idx       INTEGER NOT NULL,
    leaf      TEXT NOT NULL,
    PRIMARY KEY (household, idx)
) STRICT;

-- Hashes of the complete subtrees, by position.
CREATE TABLE ledger_hash (
    household INTEGER NOT NULL REFERENCES household (id),
    pos       INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    PRIMARY KEY (household, pos)
) STRICT, WITHOUT ROWID;

-- Bodies beside the tree. Erasing sets body, salt and sha256 to NULL.
CREATE TABLE ledger_body (
    household INTEGER NOT NULL REFERENCES household (id),
    idx       INTEGER NOT NULL,
    time      INTEGER NOT NULL,
    body      BLOB,
    salt      BLOB,
    sha256    BLOB,
    PRIMARY KEY (household, idx)
) STRICT;

CREATE INDEX ledger_body_erasable ON ledger_body (household, time) WHERE body IS NOT NULL;

-- Sampled values that must survive a restart together with the intent that gave them out.
CREATE TABLE held (
    household INTEGER NOT NULL REFERENCES household (id),
    key       TEXT NOT NULL,
    json      TEXT NOT NULL,
    PRIMARY KEY (household, key)
) STRICT, WITHOUT ROWID;
