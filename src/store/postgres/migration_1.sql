DO $$
BEGIN
    -- Not CREATE SCHEMA IF NOT EXISTS: that asks for the right to create one also where it is there.
    IF to_regnamespace('rollmark') IS NULL THEN
        CREATE SCHEMA rollmark;
    END IF;
END
$$;

CREATE TABLE rollmark.migrations (
    number integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The row that a run locks.
CREATE TABLE rollmark.schools (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    school text COLLATE "C" NOT NULL UNIQUE,
    revision bigint NOT NULL DEFAULT 0,
    last_entry bigint NOT NULL DEFAULT 0,
    last_run bigint NOT NULL DEFAULT 0
);

-- Apart from the schools, so that taking a lease does not wait for a run that is being written.
CREATE TABLE rollmark.leases (
    school text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL,
    ends_at timestamptz NOT NULL,
    length interval NOT NULL
);

-- The run is JSON, not JSONB: it keeps texts of the source as they were.
CREATE TABLE rollmark.run_records (
    school integer NOT NULL REFERENCES rollmark.schools,
    number bigint NOT NULL,
    purpose text NOT NULL,
    fetched_at timestamptz NOT NULL,
    as_of_earliest timestamptz NOT NULL,
    applied_at timestamptz NOT NULL,
    from_date date NOT NULL,
    to_date date NOT NULL,
    students text[] COLLATE "C",
    added bigint NOT NULL,
    changed bigint NOT NULL,
    unchanged bigint NOT NULL,
    removed bigint NOT NULL,
    withheld bigint NOT NULL,
    kept bigint NOT NULL,
    keeps_withheld boolean NOT NULL,
    run json NOT NULL,
    PRIMARY KEY (school, number)
);

-- A row a change; those that are the latest of their place and no removals are the marks. Without foreign keys, which would
-- be looked at row by row. The times are the run's: without them, each read would look up the run of every mark.
CREATE TABLE rollmark.changes (
    school integer NOT NULL,
    entry bigint NOT NULL,
    previous bigint,
    run bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    as_of_earliest timestamptz NOT NULL,
    applied_at timestamptz NOT NULL,
    date date NOT NULL,
    is_latest boolean NOT NULL DEFAULT true,
    student text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    status text COLLATE "C",
    code text,
    code_name text,
    raw_code text,
    minutes_late bigint,
    decided_by text COLLATE "C",
    record_id text,
    last_updated timestamptz,
    rule text COLLATE "C",
    decision jsonb,
    PRIMARY KEY (school, entry)
);
CREATE INDEX changes_by_student ON rollmark.changes (school, student, date, session);

CREATE TABLE rollmark.erasures (
    school integer NOT NULL REFERENCES rollmark.schools,
    entry bigint NOT NULL,
    student text COLLATE "C" NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (school, entry)
);

CREATE TABLE rollmark.withheld_changes (
    school integer NOT NULL REFERENCES rollmark.schools,
    run bigint NOT NULL,
    student text COLLATE "C" NOT NULL,
    date date NOT NULL,
    session text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (school, run, student, date, session)
);

CREATE VIEW rollmark.marks AS
SELECT schools.school, c.student, c.date, c.session, c.status, c.code, c.code_name, c.raw_code, c.minutes_late,
       c.decided_by, c.record_id, c.last_updated, c.rule, c.decision, c.run, c.seen_at, c.as_of_earliest, c.applied_at,
       c.entry AS cursor
FROM rollmark.changes c
JOIN rollmark.schools ON schools.id = c.school
WHERE c.is_latest AND c.status IS NOT NULL;

CREATE VIEW rollmark.history AS
SELECT schools.school, c.entry AS cursor, c.student, c.date, c.session, c.run, c.seen_at, c.applied_at,
       c.status IS NULL AS removed, c.status, c.code, c.code_name, c.raw_code, c.minutes_late, c.decided_by, c.record_id,
       c.last_updated, c.rule, c.decision, p.status AS status_before, p.code AS code_before,
       p.raw_code AS raw_code_before, p.minutes_late AS minutes_late_before
FROM rollmark.changes c
JOIN rollmark.schools ON schools.id = c.school
LEFT JOIN rollmark.changes p ON p.school = c.school AND p.entry = c.previous;

CREATE VIEW rollmark.runs AS
SELECT schools.school, r.number AS run, r.purpose, r.fetched_at, r.as_of_earliest, r.applied_at, r.from_date, r.to_date,
       r.students, r.added, r.changed, r.unchanged, r.removed, r.withheld, r.kept
FROM rollmark.run_records r
JOIN rollmark.schools ON schools.id = r.school;

CREATE VIEW rollmark.withheld AS
SELECT schools.school, w.run, w.student, w.date, w.session, w.reason
FROM rollmark.withheld_changes w
JOIN rollmark.schools ON schools.id = w.school;

INSERT INTO rollmark.migrations (number) VALUES (1);
