-- A renewal of many leases costs a third: each new row finds room in the page of the old one, and no index hears of it.
--
-- All leases of a replica are renewed by one statement every ten seconds. Full pages had no room for that: every renewal wrote each
-- row elsewhere and into both indices, and the table grew until the next vacuum. With half of each page empty it stays as it is.

alter table tocsin.lease set (fillfactor = 45);
