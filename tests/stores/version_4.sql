-- A store as version 4 of the file wrote it: a change, a removal, a mark that came back, an out-of-school record, a run whose
-- withheld changes are kept, an erasure and two schools.
PRAGMA application_id = 1919904876;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE schools (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        lease_token INTEGER NOT NULL,
        last_change INTEGER NOT NULL,
        lease_until_ms INTEGER NOT NULL DEFAULT 0,
        lease_length_ms INTEGER NOT NULL DEFAULT 0,
        checksum INTEGER NOT NULL
    );
INSERT INTO schools VALUES(1,'school',6,5,16,0,30000,237870597);
INSERT INTO schools VALUES(2,'other',1,1,13,0,30000,3823341262);
CREATE TABLE texts (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
INSERT INTO texts VALUES(1,'Illness',4002380026);
INSERT INTO texts VALUES(2,'Medical or dental appointment',2610325931);
CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at TEXT NOT NULL,
        as_of_earliest TEXT NOT NULL,
        applied_at TEXT NOT NULL,
        content TEXT,
        code_name INTEGER,
        checksum INTEGER NOT NULL
    );
INSERT INTO changes VALUES(1,1,'2026-11-20','4733683200','AM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.546742849+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"1","last_updated":"2026-11-20T08:45:00Z","rule":"only_candidate"}',NULL,4094119628);
INSERT INTO changes VALUES(2,1,'2026-11-20','4733683201','AM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.546742849+00:00','{"status":"absent","code":"I","raw_code":"9","minutes_late":null,"decided_by":"registration","record_id":"2","last_updated":"2026-11-20T08:45:00Z","rule":"only_candidate"}',1,4034777053);
INSERT INTO changes VALUES(3,1,'2026-11-20','4733683201','PM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.546742849+00:00','{"status":"absent","code":"M","raw_code":"17","minutes_late":null,"decided_by":"out_of_school","record_id":"901","last_updated":"2026-11-20T14:00:00Z","rule":"latest_update"}',2,1282813137);
INSERT INTO changes VALUES(4,1,'2026-11-20','4733683202','AM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.546742849+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"4","last_updated":"2026-11-20T08:45:00.123456Z","rule":"only_candidate"}',NULL,3118477311);
INSERT INTO changes VALUES(5,1,'2026-11-20','4733683200','AM',1,2,'2026-11-20T19:00:00+00:00','2026-11-20T19:00:00+00:00','2026-11-26T18:46:42.553406933+00:00','{"status":"absent","code":"I","raw_code":"9","minutes_late":null,"decided_by":"registration","record_id":"1","last_updated":"2026-11-20T15:00:00Z","rule":"only_candidate"}',1,4068109509);
INSERT INTO changes VALUES(6,1,'2026-11-20','4733683201','AM',2,2,'2026-11-20T19:00:00+00:00','2026-11-20T19:00:00+00:00','2026-11-26T18:46:42.553406933+00:00',NULL,NULL,1626330340);
INSERT INTO changes VALUES(7,1,'2026-11-20','4733683201','AM',6,3,'2026-11-20T20:00:00+00:00','2026-11-20T20:00:00+00:00','2026-11-26T18:46:42.557452203+00:00','{"status":"late","code":null,"raw_code":null,"minutes_late":7,"decided_by":"registration","record_id":"2","last_updated":"2026-11-20T16:00:00Z","rule":"only_candidate"}',NULL,274084177);
INSERT INTO changes VALUES(8,1,'2026-11-20','4733683200','PM',NULL,4,'2026-11-20T21:00:00+00:00','2026-11-20T21:00:00+00:00','2026-11-26T18:46:42.561648406+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"5","last_updated":"2026-11-20T16:30:00Z","rule":"only_candidate"}',NULL,3343204031);
INSERT INTO changes VALUES(9,1,'2026-11-20','4733683202','PM',NULL,4,'2026-11-20T21:00:00+00:00','2026-11-20T21:00:00+00:00','2026-11-26T18:46:42.561648406+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"6","last_updated":"2026-11-20T16:30:00Z","rule":"only_candidate"}',NULL,2700584749);
INSERT INTO changes VALUES(11,2,'2026-11-20','4733683200','PM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.569673999+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"5","last_updated":"2026-11-20T16:30:00Z","rule":"only_candidate"}',NULL,110194413);
INSERT INTO changes VALUES(12,2,'2026-11-20','4733683201','PM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.569673999+00:00','{"status":"absent","code":"M","raw_code":"17","minutes_late":null,"decided_by":"out_of_school","record_id":"901","last_updated":"2026-11-20T14:00:00Z","rule":"latest_update"}',2,1651968657);
INSERT INTO changes VALUES(13,2,'2026-11-20','4733683202','PM',NULL,1,'2026-11-20T18:00:00+00:00','2026-11-20T18:00:00+00:00','2026-11-26T18:46:42.569673999+00:00','{"status":"present","code":null,"raw_code":null,"minutes_late":null,"decided_by":"registration","record_id":"6","last_updated":"2026-11-20T16:30:00Z","rule":"only_candidate"}',NULL,1588286843);
INSERT INTO changes VALUES(14,1,'2026-11-20','4733683200','PM',8,5,'2026-11-20T22:00:00+00:00','2026-11-20T22:00:00+00:00','2026-11-26T23:29:51.547619339+00:00','{"status":"absent","code":"I","raw_code":"9","minutes_late":null,"decided_by":"registration","record_id":"77","last_updated":"2026-11-20T13:45:00.654321Z","rule":"only_candidate"}',1,667656322);
INSERT INTO changes VALUES(15,1,'2026-11-20','4733683201','PM',3,5,'2026-11-20T22:00:00+00:00','2026-11-20T22:00:00+00:00','2026-11-26T23:29:51.547619339+00:00',NULL,NULL,360001270);
INSERT INTO changes VALUES(16,1,'2026-11-20','4733683202','PM',9,5,'2026-11-20T22:00:00+00:00','2026-11-20T22:00:00+00:00','2026-11-26T23:29:51.547619339+00:00',NULL,NULL,1397976396);
CREATE TABLE decisions (
        change INTEGER PRIMARY KEY,
        decision TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
INSERT INTO decisions VALUES(1,'{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}',3113158539);
INSERT INTO decisions VALUES(2,'{"rule":"only_candidate","winner":{"kind":"registration","id":"2","last_updated":"2026-11-20T08:45:00Z"},"registration":{"id":"2","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}',3794699804);
INSERT INTO decisions VALUES(3,'{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}',1888710763);
INSERT INTO decisions VALUES(4,'{"rule":"only_candidate","winner":{"kind":"registration","id":"4","last_updated":"2026-11-20T08:45:00.123456Z"},"registration":{"id":"4","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}',2899856375);
INSERT INTO decisions VALUES(5,'{"rule":"only_candidate","winner":{"kind":"registration","id":"1","last_updated":"2026-11-20T15:00:00Z"},"registration":{"id":"1","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}',1661798640);
INSERT INTO decisions VALUES(7,'{"rule":"only_candidate","winner":{"kind":"registration","id":"2","last_updated":"2026-11-20T16:00:00Z"},"registration":{"id":"2","period":null,"at":"2026-11-20T08:40:00","picked_by":"time_rule"},"losers":[]}',3628431988);
INSERT INTO decisions VALUES(8,'{"rule":"only_candidate","winner":{"kind":"registration","id":"5","last_updated":"2026-11-20T16:30:00Z"},"registration":{"id":"5","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[]}',1052360939);
INSERT INTO decisions VALUES(9,'{"rule":"only_candidate","winner":{"kind":"registration","id":"6","last_updated":"2026-11-20T16:30:00Z"},"registration":{"id":"6","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[]}',718174732);
INSERT INTO decisions VALUES(11,'{"rule":"only_candidate","winner":{"kind":"registration","id":"5","last_updated":"2026-11-20T16:30:00Z"},"registration":{"id":"5","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[]}',2776551546);
INSERT INTO decisions VALUES(12,'{"rule":"latest_update","winner":{"kind":"out_of_school","id":"901","last_updated":"2026-11-20T14:00:00Z"},"registration":{"id":"3","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[{"kind":"registration","id":"3","last_updated":"2026-11-20T13:35:00Z","why":"older"}]}',3772014190);
INSERT INTO decisions VALUES(13,'{"rule":"only_candidate","winner":{"kind":"registration","id":"6","last_updated":"2026-11-20T16:30:00Z"},"registration":{"id":"6","period":null,"at":"2026-11-20T13:30:00","picked_by":"time_rule"},"losers":[]}',3644083285);
INSERT INTO decisions VALUES(14,'{"rule":"only_candidate","winner":{"kind":"registration","id":"77","last_updated":"2026-11-20T13:45:00.654321Z"},"registration":{"id":"77","period":null,"at":"2026-11-20T13:40:00","picked_by":"time_rule"},"losers":[]}',2290541406);
CREATE TABLE erasures (
        id INTEGER PRIMARY KEY,
        school INTEGER NOT NULL,
        student TEXT NOT NULL,
        applied_at TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
INSERT INTO erasures VALUES(10,1,'4733683209','2026-11-26T18:46:42.565159734+00:00',3003379508);
CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
INSERT INTO marks VALUES(1,'2026-11-20','4733683200','AM',5,1219260865);
INSERT INTO marks VALUES(1,'2026-11-20','4733683200','PM',14,685036820);
INSERT INTO marks VALUES(1,'2026-11-20','4733683201','AM',7,3846213853);
INSERT INTO marks VALUES(1,'2026-11-20','4733683201','PM',15,652705941);
INSERT INTO marks VALUES(1,'2026-11-20','4733683202','AM',4,3044229629);
INSERT INTO marks VALUES(1,'2026-11-20','4733683202','PM',16,884112918);
INSERT INTO marks VALUES(2,'2026-11-20','4733683200','PM',11,529355183);
INSERT INTO marks VALUES(2,'2026-11-20','4733683201','PM',12,596141740);
INSERT INTO marks VALUES(2,'2026-11-20','4733683202','PM',13,65796781);
CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
INSERT INTO runs VALUES(1,1,'{"number":1,"purpose":"window","freshness":{"fetched_at":"2026-11-20T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":4,"changed":0,"unchanged":0,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":14400,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',2823003258);
INSERT INTO runs VALUES(1,2,'{"number":2,"purpose":"window","freshness":{"fetched_at":"2026-11-20T19:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":0,"changed":1,"unchanged":2,"removed":1,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":14400,"previous_at_least_seconds":10800,"proofs":1,"is_unchanged":false}}',580003159);
INSERT INTO runs VALUES(1,3,'{"number":3,"purpose":"window","freshness":{"fetched_at":"2026-11-20T20:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":1,"changed":0,"unchanged":3,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":14400,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',3536869991);
INSERT INTO runs VALUES(1,4,'{"number":4,"purpose":"window","freshness":{"fetched_at":"2026-11-20T21:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":2,"changed":0,"unchanged":1,"removed":0,"withheld":3,"kept":0},"withheld":{"unproven":3},"issues":{},"reply_age":{"at_most_seconds":16200,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',206533151);
INSERT INTO runs VALUES(1,5,'{"number":5,"purpose":"window","freshness":{"fetched_at":"2026-11-20T22:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":0,"changed":1,"unchanged":0,"removed":2,"withheld":3,"kept":0},"withheld":{"unproven":3},"issues":{},"reply_age":{"at_most_seconds":29699,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',1633294043);
INSERT INTO runs VALUES(2,1,'{"number":1,"purpose":"window","freshness":{"fetched_at":"2026-11-20T18:00:00Z","cache_seconds":0},"scope":{"window":{"from":"2026-10-21","to":"2026-11-20","today":"2026-11-20"},"students":null},"rules":{"zone":"Europe/London","pm_rule":{"first_from":"12:00:00"},"tie_break":"out_of_school","midnight_end":"excluded"},"zone_edition":"2026f","marks":{"added":3,"changed":0,"unchanged":0,"removed":0,"withheld":0,"kept":0},"withheld":{},"issues":{},"reply_age":{"at_most_seconds":5400,"previous_at_least_seconds":null,"proofs":0,"is_unchanged":false}}',2810762894);
CREATE TABLE withheld (
        school INTEGER NOT NULL,
        run INTEGER NOT NULL,
        changes TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, run)
    ) WITHOUT ROWID;
INSERT INTO withheld VALUES(1,5,'[[["unproven","2026-11-20","AM"],["4733683200","4733683201","4733683202"]]]',2246671698);
CREATE INDEX feed ON changes (school);
COMMIT;
