-- Removes what 0008_roles made.
DROP TABLE tandem.api_key;
