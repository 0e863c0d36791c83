-- A store as version 1 of the file wrote it: a change, a removal, an out-of-school record and two schools.
PRAGMA application_id = 1919904876;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at TEXT NOT NULL,
        mark TEXT
    );
INSERT INTO "changes" VALUES(1,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"present","code":null,"code_name":null,"raw_code":null,"minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}');
INSERT INTO "changes" VALUES(2,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":"Illness","raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"2","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"2","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}');
INSERT INTO "changes" VALUES(3,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"PM","status":"absent","code":"M","code_name":"Medical or dental appointment","raw_code":"17","minutes_late":null,"decision":{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}}');
INSERT INTO "changes" VALUES(4,1,2,'2026-11-22T18:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":"Illness","raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T16:00:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}');
INSERT INTO "changes" VALUES(5,2,2,'2026-11-22T18:00:00+00:00',NULL);
INSERT INTO "changes" VALUES(6,NULL,1,'2026-11-22T19:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":"Illness","raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T16:00:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}');
INSERT INTO "changes" VALUES(7,NULL,1,'2026-11-22T19:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"PM","status":"absent","code":"M","code_name":"Medical or dental appointment","raw_code":"17","minutes_late":null,"decision":{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}}');
CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683200','AM',4);
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683201','AM',5);
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683201','PM',3);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683200','AM',6);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683201','PM',7);
CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
INSERT INTO "runs" VALUES(1,1,'{"number":1,"freshness":{"fetched_at":"2026-11-20T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school"},"marks":{"added":3,"changed":0,"unchanged":0,"removed":0,"withheld":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":14400,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}');
INSERT INTO "runs" VALUES(1,2,'{"number":2,"freshness":{"fetched_at":"2026-11-22T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school"},"marks":{"added":0,"changed":1,"unchanged":1,"removed":1,"withheld":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":180000,"previous_at_least_seconds":7200,"proofs":1,"is_unchanged":false}}');
INSERT INTO "runs" VALUES(2,1,'{"number":1,"freshness":{"fetched_at":"2026-11-22T19:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school"},"marks":{"added":2,"changed":0,"unchanged":0,"removed":0,"withheld":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":183600,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}');
CREATE TABLE schools (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL DEFAULT 0,
        lease_token INTEGER NOT NULL DEFAULT 0,
        lease_until_ms INTEGER NOT NULL DEFAULT 0
    );
INSERT INTO "schools" VALUES(1,'school',2,2,0);
INSERT INTO "schools" VALUES(2,'other',1,1,0);
COMMIT;
