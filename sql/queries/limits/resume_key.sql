-- Lets a key go on past the dead letter it stopped behind; false where it had not stopped.
SELECT tandem.resume_key(%(queue)s::text, %(key)s::text) AS resumed
