-- A store as version 2 of the file wrote it: a change, a removal, a mark that came back, an out-of-school record and two schools.
PRAGMA application_id = 1919904876;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at TEXT NOT NULL,
        mark TEXT,
        code_name INTEGER,
        checksum INTEGER NOT NULL
    );
INSERT INTO "changes" VALUES(1,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"present","code":null,"code_name":null,"raw_code":null,"minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',NULL,1126817100);
INSERT INTO "changes" VALUES(2,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":null,"raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"2","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"2","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',1,1305713964);
INSERT INTO "changes" VALUES(3,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"PM","status":"absent","code":"M","code_name":null,"raw_code":"17","minutes_late":null,"decision":{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}}',2,1621704272);
INSERT INTO "changes" VALUES(4,NULL,1,'2026-11-20T18:00:00+00:00','{"student":"4733683202","date":"2026-11-20","session":"AM","status":"present","code":null,"code_name":null,"raw_code":null,"minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"4","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"4","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',NULL,1872677384);
INSERT INTO "changes" VALUES(5,NULL,1,'2026-11-20T19:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"present","code":null,"code_name":null,"raw_code":null,"minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',NULL,1872904672);
INSERT INTO "changes" VALUES(6,NULL,1,'2026-11-20T19:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":null,"raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"2","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"2","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',1,655758751);
INSERT INTO "changes" VALUES(7,NULL,1,'2026-11-20T19:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"PM","status":"absent","code":"M","code_name":null,"raw_code":"17","minutes_late":null,"decision":{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}}',2,2994320635);
INSERT INTO "changes" VALUES(8,NULL,1,'2026-11-20T19:00:00+00:00','{"student":"4733683202","date":"2026-11-20","session":"AM","status":"present","code":null,"code_name":null,"raw_code":null,"minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"4","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"4","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',NULL,2844456756);
INSERT INTO "changes" VALUES(9,1,2,'2026-11-22T18:00:00+00:00','{"student":"4733683200","date":"2026-11-20","session":"AM","status":"absent","code":"I","code_name":null,"raw_code":"9","minutes_late":null,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T16:00:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',1,554406845);
INSERT INTO "changes" VALUES(10,2,2,'2026-11-22T18:00:00+00:00',NULL,NULL,1086457775);
INSERT INTO "changes" VALUES(11,10,3,'2026-11-23T18:00:00+00:00','{"student":"4733683201","date":"2026-11-20","session":"AM","status":"late","code":null,"code_name":null,"raw_code":null,"minutes_late":7,"decision":{"rule":"only_candidate","winner":{"kind":"registration","id":"5","last_updated":"2026-11-22T19:00:00Z"},"registration":{"id":"5","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}}',NULL,1915766417);
CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683200','AM',9,3826859725);
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683201','AM',11,4070208548);
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683201','PM',3,1082507939);
INSERT INTO "marks" VALUES(1,'2026-11-20','4733683202','AM',4,3044229629);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683200','AM',5,3111767717);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683201','AM',6,227417848);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683201','PM',7,3577526467);
INSERT INTO "marks" VALUES(2,'2026-11-20','4733683202','AM',8,3893604757);
CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
INSERT INTO "runs" VALUES(1,1,'{"number":1,"freshness":{"fetched_at":"2026-11-20T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":4,"changed":0,"unchanged":0,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":14400,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',1195853265);
INSERT INTO "runs" VALUES(1,2,'{"number":2,"freshness":{"fetched_at":"2026-11-22T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":0,"changed":1,"unchanged":2,"removed":1,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":180000,"previous_at_least_seconds":7200,"proofs":1,"is_unchanged":false}}',2517835618);
INSERT INTO "runs" VALUES(1,3,'{"number":3,"freshness":{"fetched_at":"2026-11-23T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":1,"changed":0,"unchanged":3,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{"implausible_timestamp":{"count":1,"examples":["5"]}},"reply_age":{"at_most_seconds":82800,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',2419251301);
INSERT INTO "runs" VALUES(2,1,'{"number":1,"freshness":{"fetched_at":"2026-11-20T19:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":4,"changed":0,"unchanged":0,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":18000,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',779650297);
CREATE TABLE schools (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        lease_token INTEGER NOT NULL,
        lease_until_ms INTEGER NOT NULL DEFAULT 0,
        lease_length_ms INTEGER NOT NULL DEFAULT 0,
        checksum INTEGER NOT NULL
    );
INSERT INTO "schools" VALUES(1,'school',3,3,0,30000,2003955054);
INSERT INTO "schools" VALUES(2,'other',1,1,0,30000,2534736710);
CREATE TABLE texts (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
INSERT INTO "texts" VALUES(1,'Illness',4002380026);
INSERT INTO "texts" VALUES(2,'Medical or dental appointment',2610325931);
COMMIT;
